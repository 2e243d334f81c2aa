import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from supersnn import checkpoint, exported
from supersnn.checking import check, evaluate_on, tolerance
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.data import images_at, training_data
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.exported import LEDGER, DamagedExport, Preprocessing
from supersnn.sources.registry import read
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


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write the digits' first training images as a data set of class folders; return its name."""
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    raw = read(DatasetConfig(name="digits"), "train")

    def write(names: Sequence[str], mode: str = "L", side: int = 8, also: str | None = None) -> str:
        for part, rows in (("train", range(100)), ("test", range(100, 250))):
            for row in rows:
                folder = tmp_path / "set" / part / names[int(raw.labels[row])]
                folder.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(raw.pixels[row, 0].numpy()).convert(mode).resize((side, side))
                image.save(folder / f"{row}.png")
            if also is not None:
                (tmp_path / "set" / part / also).mkdir()
                image.save(tmp_path / "set" / part / also / "0.png")
        return f"folder:{tmp_path / 'set'}"

    return write


def test_classes_are_matched_by_name(
    configured: Callable[..., TrainConfig], words: Callable[..., str], tmp_path: Path
) -> None:
    """The same images under the same names in another order get the same results."""
    config = configured(dataset__images=500, neuron__kind="relu", student__time_steps=1, train__epochs=4)
    data = training_data(config.dataset)
    *_, last = train(config, data)
    about = replace(Preprocessing.of(data), classes=WORDS)
    exported.write(tmp_path / "named", config, checkpoint.student_weights(last.snapshot()[0]), about, {})
    student = exported.load(tmp_path / "named")
    found = evaluate_on(student, tmp_path / "named", words(WORDS))
    images = images_at(read(DatasetConfig(name="digits"), "train"), torch.arange(100, 250))
    expected = evaluate(student.module, images, about.mean, about.std)
    assert found.accuracy == expected.accuracy > 0.5
    assert (found.per_class, found.images) == (expected.per_class, 150)
    assert len(set(expected.per_class)) > 3
    (line,) = (tmp_path / "named" / LEDGER).read_text().splitlines()
    assert json.loads(line)["purpose"] == "evaluate named"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"names": WORDS},
            r"its classes are 'eight', 'five', .*; the student's are '0', '1', .*: expected the same names",
        ),
        ({"names": "0123456789", "also": "eleven"}, "its classes are '0', .*'eleven'; the student's are '0', .*'9'"),
        ({"names": "0123456788"}, "its classes are '0', .*'8'; the student's are"),
        ({"names": "0123456789", "mode": "RGB"}, r"its images have 3×8×8 .*, expected 1×8×8"),
        ({"names": "0123456789", "side": 9}, r"its images have 1×9×9 .*, expected 1×8×8"),
    ],
)
def test_another_kind_of_images_is_refused_before_the_ledger(
    export: Callable[..., Path], words: Callable[..., str], given: dict[str, Any], problem: str
) -> None:
    folder = export()
    with pytest.raises(UserError, match=problem) as refused:
        evaluate_on(exported.load(folder), folder, words(**given))
    assert "\n" not in str(refused.value)
    assert not (folder / LEDGER).exists()


def test_a_set_whose_test_part_is_broken_is_no_opening(export: Callable[..., Path], words: Callable[..., str]) -> None:
    folder, name = export(), words("0123456789")
    next(Path(name.removeprefix("folder:")).glob("test/9/*")).write_bytes(b"")
    with pytest.raises(UserError, match="not a readable image"):
        evaluate_on(exported.load(folder), folder, name)
    assert not (folder / LEDGER).exists()


def test_a_data_set_that_has_changed_since_is_not_compared(
    configured: Callable[..., TrainConfig], words: Callable[..., str], tmp_path: Path
) -> None:
    """An eleventh class in the folder that the student was trained on."""
    config = configured(dataset__name=words("0123456789"), train__epochs=1)
    data = training_data(config.dataset)
    *_, last = train(config, data)
    weights = checkpoint.student_weights(last.snapshot()[0])
    figures = {"val_accuracy": last.metrics["val/accuracy"], "test_accuracy": 0.5, "tolerance": 0.01}
    exported.write(tmp_path / "export", config, weights, Preprocessing.of(data), figures)
    words("0123456789", also="eleven")
    with pytest.raises(UserError, match=r"its classes are .*'eleven'; the student's are"):
        check(tmp_path / "export")
    assert not (tmp_path / "export" / LEDGER).exists()


@pytest.mark.parametrize("value", [None, True, "0.9", float("inf"), 1.5, -1, []])
def test_a_figure_that_makes_no_sense_is_damage(export: Callable[..., Path], value: Any) -> None:
    folder = export()
    for key in ("val_accuracy", "test_accuracy", "tolerance"):
        if (key, value) == ("test_accuracy", None):
            continue
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics[key] = value
        metrics["metrics_sha256"] = exported._own_sum(metrics)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(DamagedExport, match=f"{key}: expected a number from 0 to 1, found"):
            check(folder)
        export()


def test_a_ledger_that_cannot_be_written_opens_nothing(export: Callable[..., Path]) -> None:
    folder = export()
    (folder / LEDGER).mkdir()
    with pytest.raises(UserError, match=r"test-ledger\.jsonl: cannot be written, so the test images are not read"):
        evaluate_on(exported.load(folder), folder, "digits")
