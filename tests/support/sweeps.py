"""Descriptions of sweeps for tests that need one and run none."""

from typing import Any

from supersnn.config_model import parse
from tune.description.sweep import SweepConfig


def smallest(**sections: Any) -> SweepConfig:
    """Return a sweep with only what every sweep must have, named ``x`` with one arm ``x``, and these sections."""
    required = {"name": "x", "dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}, "arms": {"x": {}}}
    return parse(SweepConfig, required | sections, "test")
