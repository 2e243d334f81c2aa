"""Objects whose tensors other processes of the machine share."""

import multiprocessing
import pickle
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn import shared_tensors
from supersnn.shared_tensors import share

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_an_object_comes_back_with_its_tensors_and_their_identity() -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    tensors = {"images": images, "again": images, "part": images[1], "turned": images.transpose(0, 2)}
    with share(("digits", tensors)) as shared:
        name, found = shared.load(CPU)
    assert name == "digits"
    assert found["again"] is found["images"]
    assert all(torch.equal(found[part], tensor) for part, tensor in tensors.items())


def test_a_network_comes_back_trainable() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    network[0].weight.requires_grad_(False)
    with share(network) as shared:
        found = shared.load(CPU)
    assert [parameter.requires_grad for parameter in found.parameters()] == [False, True, True, True]
    assert all(map(torch.equal, found.state_dict().values(), network.state_dict().values()))


def test_what_is_pickled_does_not_grow_with_the_tensors() -> None:
    with share(torch.zeros(MEGABYTE)) as shared:
        assert len(shared.rest) < 1000
        assert shared.tensors.stat().st_size > 4 * MEGABYTE
    assert not shared.tensors.exists()


def test_a_write_is_seen_by_no_other_process() -> None:
    with share(torch.zeros(3)) as shared:
        shared.load(CPU)[0] = 1.0
        assert shared.load(CPU)[0] == 0.0


def test_without_space_in_memory_the_disk_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(shared_tensors, "_IN_MEMORY", tmp_path / "missing")
    with share(torch.ones(2)) as shared:
        assert shared.tensors.is_relative_to(tmp_path)
        assert torch.equal(shared.load(CPU), torch.ones(2))


def test_what_cannot_be_pickled_leaves_no_file() -> None:
    before = set(shared_tensors._IN_MEMORY.glob("supersnn-*"))
    with pytest.raises((pickle.PicklingError, AttributeError)), share((torch.ones(2), lambda: None)):
        pass
    assert set(shared_tensors._IN_MEMORY.glob("supersnn-*")) <= before


def _private_memory() -> int:
    """Return the bytes of this process's memory that no other process shares."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError("the system does not tell")


def _load_and_measure(pipe: Connection) -> None:
    shared: Any = pipe.recv()
    before = _private_memory()
    loaded = shared.load(CPU)
    total = float(loaded.sum())
    pipe.send((total, _private_memory() - before))
    del loaded  # it was there while the memory was measured


def test_a_process_has_no_copy_of_the_tensors() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_load_and_measure, args=(theirs,))
    process.start()
    with share(torch.ones(64 * MEGABYTE // 4)) as shared:
        ours.send(shared)
        total, grown = ours.recv()
    process.join()
    assert total == 64 * MEGABYTE // 4
    assert grown < 16 * MEGABYTE
