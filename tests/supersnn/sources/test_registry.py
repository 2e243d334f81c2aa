"""Names of sources, and the test share cut off those that have no test part."""

from pathlib import Path

import pytest
import torch

from supersnn.config import DatasetConfig
from supersnn.errors import UserError
from supersnn.sources.base import RawImages
from supersnn.sources.digits import Digits
from supersnn.sources.registry import SOURCES, available, fetch, read


def distinct(part: RawImages) -> set[bytes]:
    return {pixels.numpy().tobytes() for pixels in part.pixels}


def test_digits_are_spread_over_all_levels() -> None:
    from sklearn.datasets import load_digits

    images, theirs = Digits().read("train"), load_digits()
    grey = torch.from_numpy(theirs.images)
    assert images.pixels.shape == (1797, 1, 8, 8)
    assert images.pixels.max() == 255
    assert torch.equal((images.pixels[:, 0].double() / 255 * 16).round(), grey)
    assert torch.equal(images.labels, torch.from_numpy(theirs.target))


def test_digits_in_another_place_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    near = Digits().read("train")
    monkeypatch.setattr("supersnn.sources.digits._FILE", "elsewhere.csv.gz")
    far = Digits().read("train")
    assert torch.equal(near.pixels, far.pixels)
    assert torch.equal(near.labels, far.labels)


def test_digits_without_the_library_they_come_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert not Digits().present()
    for ask in (Digits().fetch, lambda: Digits().read("train")):
        with pytest.raises(UserError, match="pip install scikit-learn"):
            ask()


def test_digits_lose_a_stratified_test_part() -> None:
    whole, config = Digits().read("train"), DatasetConfig(name="digits", test=0.25)
    train, test = read(config, "train"), read(config, "test")
    assert len(test.labels) == round(0.25 * 1797)
    assert len(train.labels) + len(test.labels) == 1797
    assert not distinct(train) & distinct(test)
    share = torch.bincount(whole.labels) * 0.25
    assert ((torch.bincount(test.labels) - share).abs() <= 1).all()


def test_no_seed_moves_the_test_part() -> None:
    first = read(DatasetConfig(name="digits"), "test")
    other = read(DatasetConfig(name="digits", split_seed=7, images=300, validation=0.4), "test")
    assert torch.equal(first.pixels, other.pixels)
    assert torch.equal(first.labels, other.labels)


def test_a_test_share_that_leaves_a_part_empty_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.test"):
        read(DatasetConfig(name="digits", test=1e-6), "train")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"dataset.name: 'cifar-10' is unknown \(did you mean 'cifar10'\?\)"):
        read(DatasetConfig(name="cifar-10"), "train")
    with pytest.raises(UserError, match="'nothing'"):
        fetch("nothing")


def test_the_table_tells_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path))
    rows = {row.name: row for row in available()}
    assert list(rows) == list(SOURCES)
    assert rows["digits"].present
    assert rows["digits"].where == ""
    assert not rows["cifar100"].present
    assert rows["cifar100"].classes == 100
    assert rows["cifar100"].where == str(tmp_path / "cifar100")
    (tmp_path / "cifar100").mkdir()
    (tmp_path / "cifar100" / "cifar-100-binary.tar.gz").touch()
    assert {row.name for row in available() if row.present} >= {"digits", "cifar100"}
