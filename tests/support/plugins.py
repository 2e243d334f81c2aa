"""Packages of one's own for tests, each under a name that no other test uses: a process imports a name once."""

import itertools
from pathlib import Path

from supersnn import plugins

_NUMBERS = itertools.count()
NETWORK = """
import torch
from torch import nn
from supersnn.networks.base import Network, Output, conv

def tiny(layers, shape, classes, width=4):
    stem = nn.Sequential(conv(shape.channels, width, stride=2), layers.norm(width))
    body = nn.Sequential(conv(width, 2 * width), layers.norm(2 * width), layers.activation())
    return Network(layers.steps, stem, layers.activation(), body, 2 * width, classes)
"""


def package(folder: Path, source: str = "", active: bool = True) -> str:
    """Write a package with one module `it`, activate it, and return the import path of that module."""
    name = f"own{next(_NUMBERS)}_{folder.name.replace('-', '_')}"
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("", encoding="utf-8")
    (folder / name / "it.py").write_text(NETWORK + source, encoding="utf-8")
    if active:
        plugins.activate([str(folder / name)])
    return f"{name}.it"
