"""Images of any size, and images that a CSV file names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse
from supersnn.data import inspect, training_data
from supersnn.digests import digest
from supersnn.errors import UserError
from supersnn.sources.registry import read

BAR = np.zeros((40, 20, 3), np.uint8)
BAR[:20] = 255  # white above, black below


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))


def dataset(folder: Path, **keys: Any) -> DatasetConfig:
    return parse(DatasetConfig, {"name": f"folder:{folder}", "validation": 0.4, "test": 0.2, **keys}, "test")


def classes(folder: Path, count: int = 6) -> Path:
    """Class folders with images of several sizes and kinds."""
    for name, flipped in (("down", True), ("up", False)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(BAR[::-1] if flipped else BAR).resize((20 + 3 * number, 40 - 2 * number))
            image.convert(("RGB", "L", "P")[number % 3]).save(folder / name / f"{number}.png")
    return folder


def test_images_of_any_size_are_resized_once(tmp_path: Path) -> None:
    folder = classes(tmp_path / "images")
    with pytest.raises(UserError, match=r"square images of one size, or dataset\.resize"):
        training_data(dataset(folder))
    config = dataset(folder, resize={"side": 16})
    data = training_data(config)
    assert data.shape == (3, 16)
    assert inspect(config).shape == (3, 16)
    (cached,) = (tmp_path / "data" / "cache").glob("folder-*.safetensors")
    before = cached.stat().st_mtime_ns
    assert training_data(config).fingerprint == data.fingerprint
    assert cached.stat().st_mtime_ns == before
    assert training_data(dataset(folder, resize={"side": 8})).shape == (3, 8)


@pytest.mark.parametrize(
    ("how", "first", "last", "side"),
    [("crop", 255, 0, 255), ("stretch", 255, 0, 255), ("fit", 255, 0, 0)],
)
def test_rules_of_resizing(how: str, first: int, last: int, side: int, tmp_path: Path) -> None:
    """A tall image, white above: cropped to its middle, stretched, or with black on both sides."""
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(BAR).save(tmp_path / "images" / name / f"{number}.png")
    images = read(dataset(tmp_path / "images", resize={"side": 16, "how": how}), "train")
    middle = images.pixels[0, 0, :, 8]
    assert (int(middle[1]), int(middle[-2])) == (first, last)
    assert int(images.pixels[0, 0, 2, 0]) == side
    assert torch.equal(images.pixels[0], images.pixels[-1])


def test_a_digest_without_the_keys_is_as_before() -> None:
    plain: dict[str, Any] = {"dataset": {"name": "folder:/x"}, "student": {"architecture": "resnet8"}}
    given = {**plain, "dataset": {"name": "folder:/x", "resize": {"side": 8}}}
    assert digest(parse(TrainConfig, plain, "test")) == "60e73e55c8462227"
    assert digest(parse(TrainConfig, given, "test")) != "60e73e55c8462227"
    with pytest.raises(UserError, match=r"resize: is for images of one's own, folder:PATH, not for 'digits'"):
        parse(DatasetConfig, {"name": "digits", "resize": {"side": 8}}, "test")


def table(folder: Path, text: str) -> Path:
    folder = classes(folder)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


ROWS = [f"{name}/{n}.png,{name},{'test' if n == 5 else 'train'}" for name in ("down", "up") for n in range(6)]


def test_a_csv_file_names_the_images(tmp_path: Path) -> None:
    folder = table(tmp_path / "images", "\n".join(["file,class,cut", *ROWS]))
    layout = {"file": "labels.csv", "path": "file", "label": "class"}
    config = dataset(folder, resize={"side": 8}, layout=layout)
    summary = inspect(config)
    assert (summary.classes, summary.test) == ({"down": 5, "up": 5}, 2)  # a share of them is split off
    with_parts = dataset(folder, resize={"side": 8}, layout={**layout, "part": "cut"})
    assert len(read(with_parts, "train").labels) == 10
    test = read(with_parts, "test")
    assert test.labels.tolist() == [0, 1]
    assert test.classes == ("down", "up")


@pytest.mark.parametrize(
    ("text", "layout", "words"),
    [
        (None, {"file": "no.csv"}, r"layout\.file: .*no\.csv: cannot be read as a CSV file"),
        ("path,lable\na.png,x\n", {}, r"layout\.label: .* has no column 'label' \(did you mean 'lable'\?\)"),
        ("path,label\n", {}, "no rows below"),
        ("path,label\ndown/0.png,\n", {}, "line 2: expected a path and a label"),
        ("path,label\ndown/0.png,a\ndown/0.png,b\n", {}, r"down/0\.png is named twice"),
        ("path,label\ndown/0.png,a\n", {}, "1 classes; expected two or more"),
        ("path,label\ndown/0.txt,a\n", {}, "expected an image"),
        ("path,label,part\ndown/0.png,a,valid\n", {"part": "part"}, "part: expected train or test, found 'valid'"),
        ("path,label,part\ndown/0.png,a,train\nup/0.png,b,train\nup/1.png,c,test\n", {"part": "part"}, "class 'c'"),
        ("path,label\nnowhere.png,a\nup/0.png,b\n", {}, r"nowhere\.png: cannot be read"),
    ],
)
def test_wrong_tables_are_one_line(text: str | None, layout: dict[str, str], words: str, tmp_path: Path) -> None:
    folder = table(tmp_path / "images", text or "")
    config = dataset(folder, resize={"side": 8}, layout={"file": "labels.csv", **layout})
    assert inspect(config).fault is not None
    with pytest.raises(UserError, match=words) as error:
        training_data(config)
    assert "\n" not in str(error.value)
