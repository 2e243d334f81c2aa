import os
from pathlib import Path

import pytest
import torch

from supersnn import checkpoint
from supersnn.files import DamagedFile, write_atomically


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tensors = {
        "student.weight": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "student.count": torch.tensor(7),
        "optimizer.0.step": torch.tensor(0.1),
        "half": torch.randn(3).half().requires_grad_(),
    }
    meta = {"epoch": 3, "history": [{"val/accuracy": 0.1 + 0.2}], "ended": None}
    checkpoint.save(tmp_path / "new" / "a.safetensors", tensors, meta)
    found, described = checkpoint.load(tmp_path / "new" / "a.safetensors")
    assert described == meta
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert set(checkpoint.student_weights(found)) == {"weight", "count"}


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_torn_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"w": torch.randn(100)}, {"epoch": 1})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match=r"a\.safetensors: not a complete safetensors file"):
        checkpoint.load(path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.safetensors")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_description_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "a.safetensors", {}, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
