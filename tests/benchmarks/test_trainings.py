"""Trainings of a comparison: their keys, the file of their results, and its folder."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import trainings
from benchmarks.trainings import QUICK, MissingTraining, Recorded, Runs, Training, best_of

EVIDENCE = Path(__file__).parents[2] / "benchmarks" / "evidence" / "method.jsonl"
ONE = Training("digits", "a", {"optimizer.lr": 0.1}, 3, False)


class FakePool:
    """Calls a function for each task, in this process."""

    def imap_unordered(self, call: Callable[[Any], Any], tasks: list[Any]) -> Iterator[Any]:
        return map(call, tasks)


def opened(folder: Path) -> Runs:
    return Runs(folder, FakePool())  # type: ignore[arg-type]


def test_equal_trainings_of_two_arms_have_one_key() -> None:
    assert ONE.key == Training("digits", "b", {"optimizer.lr": 0.1}, 3, False).key
    others = [Training("digits", "a", {"optimizer.lr": 0.2}, 3, False), Training("digits", "a", ONE.values, 4, False)]
    assert len({ONE.key, *(other.key for other in others), Training("digits", "a", ONE.values, 3, True).key}) == 4


def test_trainings_of_other_sizes_have_other_keys() -> None:
    sizes: list[dict[str, int]] = [{}, {"epochs": 12}, {"epochs": 40}, {"images": 200, "epochs": 12}, QUICK]
    sized = [Training("digits", "a", ONE.values, 3, False, own) for own in sizes]
    assert len({training.key for training in sized}) == len(sized)
    assert sized[2].config().train.epochs == sized[2].config().dataset.augment.views == 40
    assert sized[3].config().dataset.images == 200


def test_the_keys_of_the_committed_evidence_are_still_those_of_its_trainings() -> None:
    for line in map(json.loads, EVIDENCE.read_text(encoding="utf-8").splitlines()):
        same = Training(line["data"], line["arm"], line["values"], line["seed"], line["final"])
        assert same.key == line["key"]


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"key": "a", "val": 0.5}\n{"key": "b", "va')
    with closing(opened(tmp_path)) as runs:
        assert set(runs.done) == {"a"}
    assert (tmp_path / "results.jsonl").read_text() == '{"key": "a", "val": 0.5}\n'


def test_a_folder_in_use_is_refused_in_one_line_and_is_free_afterwards(tmp_path: Path) -> None:
    with closing(opened(tmp_path)), pytest.raises(SystemExit) as refused:
        opened(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path}: in use by another process")
    assert "\n" not in str(refused.value)
    opened(tmp_path).close()


def test_what_is_missing_is_run_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def train_one(task: tuple[Training, Path]) -> dict[str, Any]:
        ran.append(task[0].key)
        return {"key": task[0].key, "data": task[0].data, "arm": task[0].arm, "val": 0.5}

    monkeypatch.setattr(trainings, "train_one", train_one)
    longer = Training("digits", "a", ONE.values, 3, False, {"epochs": 40})
    for _ in range(2):
        with closing(opened(tmp_path)) as runs:
            runs.note("run", command="some")
            assert [result["key"] for result in runs([ONE, longer, ONE])] == [ONE.key, longer.key, ONE.key]
    assert ran == [ONE.key, longer.key]


def test_a_training_that_evidence_lacks_is_named() -> None:
    recorded = Recorded([{"event": "run"}, {"key": ONE.key, "val": 0.5}])
    assert recorded([ONE])[0]["val"] == 0.5
    with pytest.raises(MissingTraining, match="digits: a, seed 4"):
        recorded([Training("digits", "a", ONE.values, 4, False)])


def test_the_best_option_has_the_best_mean() -> None:
    options = [[Training("digits", "a", {"rate": rate}, seed, False) for seed in (1, 2)] for rate in (1, 2, 3)]
    results = [{"val": value} for value in (0.1, 0.2, 0.3, 0.4, 0.7, 0.0)]
    index, score = best_of(lambda _trainings: results, options)
    assert index == 1
    assert score == pytest.approx(0.35)
