"""Published data sets: formats, checksums, downloads, and the errors when a download fails."""

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from supersnn.errors import UserError
from supersnn.sources import cifar, idx, svhn
from supersnn.sources.base import Part
from supersnn.sources.files import File
from supersnn.sources.published import Published

RANDOM = np.random.default_rng(0)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


def tar_bytes(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Return a folder that stands for a server."""
    (tmp_path / "origin").mkdir()
    return tmp_path / "origin"


@pytest.fixture
def clothes(origin: Path) -> tuple[Published, np.ndarray, np.ndarray]:
    """A small set in Fashion-MNIST's form, its images and its labels (the same in both parts)."""
    pixels = RANDOM.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = (np.arange(12) % 10).astype(np.uint8)
    files: dict[Part, list[File]] = {}
    for part, published in idx.FASHION_MNIST.files.items():
        files[part] = []
        for file, array in zip(published, (pixels, labels), strict=True):
            (origin / file.name).write_bytes(gzip.compress(idx_bytes(array)))
            address = (origin / file.name).as_uri()
            files[part].append(replace(file, url=address, md5=md5(idx_bytes(array))))
    return replace(idx.FASHION_MNIST, files=files, installed=None), pixels, labels


def test_idx_is_downloaded_read_and_then_no_longer_needed(
    clothes: tuple[Published, np.ndarray, np.ndarray], data_folder: Path
) -> None:
    source, pixels, labels = clothes
    assert not source.present()
    source.fetch()
    assert source.present()
    images = source.read("train")
    assert images.pixels.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    np.testing.assert_array_equal(images.pixels.numpy(), pixels[:, None])
    np.testing.assert_array_equal(images.labels.numpy(), labels)
    assert images.classes[9] == "Ankle boot"
    for file in (data_folder / "fashion-mnist").glob("*.gz"):
        file.unlink()
    again = replace(source, decode=None).read("train")  # type: ignore[arg-type]
    assert torch.equal(again.pixels, images.pixels)
    assert torch.equal(again.labels, images.labels)
    assert again.classes == images.classes


def test_a_file_with_another_content_is_refused(
    clothes: tuple[Published, np.ndarray, np.ndarray], data_folder: Path
) -> None:
    source, pixels, _ = clothes
    source.fetch()
    changed = data_folder / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    changed.write_bytes(gzip.compress(idx_bytes(pixels ^ 1)))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: MD5"):
        source.read("train")
    changed.write_bytes(changed.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged gzip"):
        source.read("train")


def test_a_download_with_another_content_is_not_kept(
    clothes: tuple[Published, np.ndarray, np.ndarray], origin: Path, data_folder: Path
) -> None:
    source, pixels, _ = clothes
    (origin / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels ^ 1)))
    with pytest.raises(UserError, match="MD5"):
        source.fetch()
    assert not list((data_folder / "fashion-mnist").glob("*.gz"))


def test_what_cannot_be_downloaded_says_which_files_go_where(
    clothes: tuple[Published, np.ndarray, np.ndarray], origin: Path, data_folder: Path
) -> None:
    source, _, _ = clothes
    for file in origin.iterdir():
        file.unlink()
    with pytest.raises(UserError) as refused:
        source.read("test")
    message = str(refused.value)
    assert "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz" in message
    assert str(data_folder / "fashion-mnist") in message
    assert "train-images" not in message
    assert "\n" not in message


def test_an_installed_copy_is_found_by_itself(clothes: tuple[Published, np.ndarray, np.ndarray], origin: Path) -> None:
    source, pixels, _ = clothes
    unreachable = {part: [replace(f, url="file:///nowhere") for f in files] for part, files in source.files.items()}
    installed = replace(source, files=unreachable, installed=origin)
    assert installed.present()
    np.testing.assert_array_equal(installed.read("test").pixels[:, 0].numpy(), pixels)


@pytest.mark.skipif(not idx.FASHION_MNIST.present(), reason="package dataset-fashion-mnist is not installed")
def test_the_installed_fashion_mnist_is_the_published_one() -> None:
    images = idx.FASHION_MNIST.read("test")
    assert images.pixels.shape == (10_000, 1, 28, 28)
    assert torch.bincount(images.labels).tolist() == [1000] * 10


@pytest.mark.parametrize(("source", "label_bytes"), [(cifar.CIFAR10, 1), (cifar.CIFAR100, 2)])
def test_cifar_archives(source: Published, label_bytes: int, data_folder: Path) -> None:
    records = RANDOM.integers(0, 256, (30, label_bytes + 3072), dtype=np.uint8)
    records[:, label_bytes - 1] %= 10
    if label_bytes == 1:
        members = {f"x/data_batch_{b}.bin": records[4 * b - 4 : 4 * b].tobytes() for b in (2, 1, 3, 4, 5)}
        members |= {"x/test_batch.bin": records[20:].tobytes(), "x/batches.meta.txt": b"a\nb\n\n"}
    else:
        members = {"x/train.bin": records[:20].tobytes(), "x/test.bin": records[20:].tobytes()}
        members |= {"x/fine_label_names.txt": b"a\nb\n", "x/coarse_label_names.txt": b"no\n"}
    content = tar_bytes(members)
    file = replace(source.files["train"][0], md5=md5(content))
    small = replace(source, files={"train": [file], "test": [file]})
    (data_folder / source.name).mkdir(parents=True)
    (data_folder / source.name / file.name).write_bytes(content)
    for part, expected in (("train", records[:20]), ("test", records[20:])):
        images = small.read(part)  # type: ignore[arg-type]
        np.testing.assert_array_equal(images.labels.numpy(), expected[:, label_bytes - 1])
        np.testing.assert_array_equal(images.pixels.flatten(1).numpy(), expected[:, label_bytes:])
        assert images.pixels.shape == (len(expected), 3, 32, 32)
        assert images.classes == ("a", "b")


def test_svhn_calls_ten_zero() -> None:
    pixels = RANDOM.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    out = io.BytesIO()
    savemat(out, {"X": pixels, "y": np.array([[10], [1], [9], [2]], np.uint8)})
    images = svhn.decode("train", [out.getvalue()])
    assert images.labels.tolist() == [0, 1, 9, 2]
    np.testing.assert_array_equal(images.pixels.numpy(), pixels.transpose(3, 2, 0, 1))
