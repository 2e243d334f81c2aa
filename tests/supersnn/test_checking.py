import json
from collections.abc import Callable
from pathlib import Path

import pytest

from supersnn import checkpoint, exported
from supersnn.checking import check, tolerance
from supersnn.config import TrainConfig
from supersnn.data import training_data
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.exported import LEDGER, DamagedExport, Preprocessing
from supersnn.test_set import open_test
from supersnn.training import train


@pytest.fixture
def export(configured: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Path]:
    """Write a trained export with some figures changed."""
    config = configured(dataset__images=200, train__epochs=1)
    data = training_data(config.dataset)
    *_, last = train(config, data)
    weights = checkpoint.student_weights(last.snapshot()[0])
    about = Preprocessing.of(data)
    test = open_test(config.dataset, tmp_path / "ledger", "test")
    measured = evaluate(exported.network(config, about, weights), test, data.mean, data.std)
    right = {"val_accuracy": last.metrics["val/accuracy"], "test_accuracy": measured.accuracy, "tolerance": 0.01}

    def write(**changes: float | None) -> Path:
        exported.write(tmp_path / "export", config, weights, about, {**right, **changes})
        return tmp_path / "export"

    return write


def test_what_is_right_is_found_again_and_the_opening_written_down(export: Callable[..., Path]) -> None:
    folder = export()
    found = check(folder)
    assert [one.figure for one in found] == ["val_accuracy", "test_accuracy"]
    assert all(one.agrees and one.found == one.recorded for one in found)
    check(folder)
    notes = [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]
    assert [note["purpose"] for note in notes] == ["check export"] * 2


@pytest.mark.parametrize("figure", ["val_accuracy", "test_accuracy"])
def test_a_figure_beyond_the_tolerance_disagrees(export: Callable[..., Path], figure: str) -> None:
    right = json.loads((export() / "metrics.json").read_text())
    near, far = right[figure] + 0.009, right[figure] + 0.011
    assert all(one.agrees for one in check(export(**{figure: near})))
    assert [one.figure for one in check(export(**{figure: far})) if not one.agrees] == [figure]


def test_without_a_test_figure_the_test_images_stay_closed(export: Callable[..., Path]) -> None:
    folder = export(test_accuracy=None)
    assert [one.figure for one in check(folder)] == ["val_accuracy"]
    assert not (folder / LEDGER).exists()


def test_damage_is_found_before_anything_is_opened(export: Callable[..., Path]) -> None:
    folder = export()
    (folder / "notes.txt").write_text("")
    with pytest.raises(DamagedExport, match=r"notes\.txt: not part of the export"):
        check(folder)
    (folder / "notes.txt").unlink()
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(DamagedExport, match=r"config\.yaml"):
        check(folder)
    (folder / "metrics.json").unlink()
    with pytest.raises(DamagedExport, match="missing"):
        check(folder)
    assert not (folder / LEDGER).exists()


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check(tmp_path / "none")


def test_the_tolerance_is_one_image_or_a_tenth_of_a_point() -> None:
    assert tolerance(100) == 0.01
    assert tolerance(10_000) == 0.001
