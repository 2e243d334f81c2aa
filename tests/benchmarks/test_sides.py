"""Features against relations at equal sides: what is tried, what is chosen, what holds, and the evidence."""

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sides import __main__ as command
from benchmarks.sides import evidence
from benchmarks.sides.design import (
    ARMS,
    CLAIM,
    COMPARED,
    DIRECT_RATES,
    DRAWS,
    GRAMS,
    RATES,
    SEEDS,
    SIDES,
    WEIGHTS,
    Comparison,
    compared,
    cost,
    grid,
)
from benchmarks.sides.tables import findings, word
from benchmarks.trainings import QUICK, TUNED_BY, Training
from supersnn.config import TrainConfig

SIZES = {"images": 5000, "epochs": 12}
ABOUT = {"processor": "some", "cores": 2, "memory_gb": 4.0}


class FakeRuns:
    """Pretended trainings: whole maps, a rate of 0.4 and the middle weight are best, shuffled the lowest of both."""

    def __init__(self) -> None:
        self.requested: list[Training] = []

    def __call__(self, trainings: Sequence[Training]) -> list[dict[str, Any]]:
        self.requested += trainings
        return [self._result(training) for training in trainings]

    def _result(self, training: Training) -> dict[str, Any]:
        values = training.values
        shuffled = values.get("loss.relation.shuffle", False)
        rate, weight = (RATES[0], WEIGHTS["gram"][0]) if shuffled else (0.4, WEIGHTS["gram"][1])
        good = (values["optimizer.lr"] == rate) + (values.get("loss.relation.weight") == weight)
        good += values.get("loss.relation.pool") == "full" and not shuffled
        val = 0.5 + 0.1 * good + 0.001 * (training.seed * len(training.arm) % 7)
        own = {"key": training.key, "data": training.data, "arm": training.arm, "sizes": dict(training.sizes)}
        return {**own, "event": "training", "seed": training.seed, "val": val, "test": val}


def comparison(run: FakeRuns, arms: Sequence[str] = ARMS) -> Comparison:
    return Comparison("digits", SIZES, arms, run)


def config_of(arm: str, values: dict[str, Any]) -> TrainConfig:
    return Training("digits", arm, values, 0, False, SIZES).config()


def test_every_arm_is_a_valid_training_at_its_side() -> None:
    for arm in ARMS:
        tried = grid(arm, "gram-4")
        for values in [*tried.first(), *tried.then(tried.first()[0])]:
            config = config_of(arm, values)
            assert (config.teacher.name is None) == arm.startswith("direct")
            assert config.dataset.augment.views == (1 if arm == "direct-plain" else 12)
            side = arm.rpartition("-")[2]
            if arm.startswith("gram"):
                assert str(config.loss.relation.pool) == side
            if arm.startswith("feature"):
                assert str(config.loss.feature.pool) == side
    assert "feature-full" not in ARMS, "it is feature-4: the student's last map has that side"


def test_every_arm_has_the_same_number_of_trainings_and_the_same_range_of_rates() -> None:
    assert len(DIRECT_RATES) == len(RATES) + len(WEIGHTS["gram"]) - 1
    assert (DIRECT_RATES[0], DIRECT_RATES[-1]) == (RATES[0], RATES[-1])
    run = FakeRuns()
    comparison(run).tuned()
    tried = {arm: {t.key for t in run.requested if t.arm == arm} for arm in ARMS}
    assert {len(keys) for keys in tried.values()} == {10}
    assert cost(ARMS) == {"tuning": 110, "final": 99}
    assert {t.seed for t in run.requested} == set(TUNED_BY)
    assert not set(TUNED_BY) & set(SEEDS)
    assert not any(t.final for t in run.requested)


def test_rate_then_weight_are_chosen_on_validation() -> None:
    chosen, best = comparison(FakeRuns()).tuned()
    assert best == "gram-full"
    assert (chosen[best]["optimizer.lr"], chosen[best]["loss.relation.weight"]) == (0.4, WEIGHTS["gram"][1])
    own = {"optimizer.lr": RATES[0], "loss.relation.weight": WEIGHTS["gram"][0], "loss.relation.shuffle": True}
    assert chosen["shuffled"] == chosen[best] | own, "tuned like the others"


def test_arms_have_the_same_teacher_at_a_seed_and_the_draws_are_shared_evenly() -> None:
    run = FakeRuns()
    own = comparison(run)
    list(own.final(own.tuned()[0]))
    final = [t for t in run.requested if t.final]
    draws = {seed: {t.values["teacher.seed"] for t in final if "teacher.name" in t.values and t.seed == seed}
             for seed in SEEDS}  # fmt: skip
    assert draws == {seed: {seed % 3} for seed in SEEDS}
    assert len(SEEDS) % DRAWS == 0
    assert all("teacher.seed" not in t.values for t in final if t.arm.startswith("direct"))
    assert [t.config().teacher.seed for t in own.taught()] == [0, 1, 2]
    assert comparison(run, ["direct", "direct-plain"]).taught() == []


def test_the_comparisons_are_at_equal_sides_and_each_is_made_once() -> None:
    assert [pair[:2] for pair in CLAIM] == [(f"feature-{side}", f"gram-{side}") for side in SIDES]
    assert [pair[:2] for pair in compared(ARMS, "gram-4")][: len(SIDES)] == [pair[:2] for pair in CLAIM]
    assert len(compared(ARMS, "gram-4")) == len(COMPARED) == 11
    assert len(compared(ARMS, "gram-full")) == 10, "gram-full against direct is one comparison"
    few = ["direct", "direct-plain", "gram-4", "feature-4"]
    pairs = [("feature-4", "gram-4"), ("gram-4", "direct"), ("gram-4", "direct-plain"), ("direct", "direct-plain")]
    assert [pair[:2] for pair in compared(few, "gram-4")] == pairs


def test_the_tables_say_what_holds_and_which_values_are_at_the_edge_of_their_grid() -> None:
    lines = list(findings(comparison(FakeRuns())))
    assert lines[0] == "### digits, 12 epochs"
    assert any(line.startswith("| gram-full | 0.4 | 0.5 | 9 |") for line in lines)
    assert any(line.startswith("| shuffled | 0.13 (edge) | 0.1 (edge) | 9 |") for line in lines)
    (helps,) = [line for line in lines if line.startswith("| what the relations say helps: gram-full − shuffled")]
    assert re.search(r"\| (\+\d+\.\d\d) \| \+\d.* \| 0\.000 \| \+\S+ / \+\S+ / \+\S+ \| yes \|$", helps)
    (behind,) = [line for line in lines if "feature-1 − gram-1" in line]
    assert behind.endswith("| no, the opposite |")
    assert "The claim, that features lead at every equal side: **not established**." in lines
    some = list(findings(comparison(FakeRuns(), ["direct", "direct-plain", "gram-4", "feature-4"])))
    assert not any("The claim" in line for line in some), "it needs every side"
    assert not any("%" in line and "interval" in line for line in findings(comparison(FakeRuns(), ["direct"])))


@pytest.mark.parametrize(
    ("p", "low", "high", "said"),
    [(0.04, 0.01, 0.02, "yes"), (0.06, 0.01, 0.02, "no"), (0.04, -0.02, -0.01, "no, the opposite"),
     (0.06, -0.02, -0.01, "no"), (0.9, -0.01, 0.01, "no")],
)  # fmt: skip
def test_a_lead_holds_by_its_adjusted_p_value_and_its_interval(p: float, low: float, high: float, said: str) -> None:
    assert word({"p": p, "low": low, "high": high}) == said


def results(arms: Sequence[str], sizes: dict[str, int] = SIZES) -> list[dict[str, Any]]:
    """Return the lines of a folder in which some arms have been trained."""
    run = FakeRuns()
    own = Comparison("digits", sizes, arms, run)
    list(own.final(own.tuned()[0]))
    facts = [{"name": "resnet20", "val": 0.6 + 0.01 * draw, "parameters": 272186, "seconds": 9.0} for draw in range(3)]
    about = {"sizes": sizes, "machine": ABOUT, "versions": {"torch": "2"}, "command": "python -m benchmarks.sides"}
    return [
        {"event": "run", **about},
        {"event": "teachers", "data": "digits", "sizes": sizes, "teachers": facts},
        *run(list(run.requested)),
    ]


def write(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def test_chunks_of_two_folders_are_packed_into_one_table(tmp_path: Path) -> None:
    lines, packed = results(ARMS), tmp_path / "sides.jsonl"
    half = len(lines) // 2
    first, second = write(tmp_path / "a", lines[:half]), write(tmp_path / "b", [lines[0], *lines[half:]])
    evidence.keep([first], packed)
    assert list(evidence.section(packed)) == [], "not complete yet"
    evidence.keep([second], packed)
    once = packed.read_text(encoding="utf-8")
    evidence.keep([first, second], packed)
    assert packed.read_text(encoding="utf-8") == once
    section = list(evidence.section(packed))
    assert section[0] == "    python -m benchmarks.sides"
    assert sum(line.startswith("some, 2 cores") for line in section) == 1
    assert any("3 draws of the teacher resnet20, 272,186 parameters, validation 60.0%, 61.0%, 62.0%" in line
               for line in section)  # fmt: skip
    assert section[-len(list(findings(comparison(FakeRuns())))) :] == list(findings(comparison(FakeRuns())))


def test_a_longer_budget_of_some_arms_has_its_own_table_and_quick_results_none(tmp_path: Path) -> None:
    few = ["direct", "direct-plain", "gram-4", "feature-4"]
    longer = results(few, {"images": 5000, "epochs": 36})
    unfinished = results(["direct"], {"images": 5000, "epochs": 24})[:-1]
    other = {"event": "training", "key": "of the method", "data": "digits", "arm": "direct", "val": 0.5}
    folder = write(tmp_path / "a", [*results(ARMS), *longer, *unfinished, *results(few, QUICK), other])
    evidence.keep([folder], tmp_path / "sides.jsonl")
    headings = [line for line in evidence.section(tmp_path / "sides.jsonl") if line.startswith("### ")]
    assert headings == ["### digits, 12 epochs", "### digits, 36 epochs"]


def test_without_evidence_there_is_no_section(tmp_path: Path) -> None:
    assert list(evidence.section(tmp_path / "none.jsonl")) == []
    with pytest.raises(SystemExit, match=r"no results\.jsonl there"):
        evidence.keep([tmp_path], tmp_path / "sides.jsonl")


def test_wrong_command_lines_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=f"needs one of {GRAMS[0]}"):
        command.main(["--folder", str(tmp_path), "--arms", "direct", "shuffled"])
    for wrong in ([], ["--folder", str(tmp_path), "--write", "RESULTS.md"]):
        with pytest.raises(SystemExit):
            command.main(wrong)
        assert "expected --folder to train, or --keep or --write" in capsys.readouterr().err
    command.main(["--plan", "--arms", "direct", "direct-plain", "gram-4", "feature-4", "--epochs", "36"])
    assert json.loads(capsys.readouterr().out)["trainings a data set"] == {"tuning": 40, "final": 36}


def test_packed_evidence_writes_the_section_without_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, text = tmp_path / "sides.jsonl", tmp_path / "RESULTS.md"
    text.write_text("<!-- sides -->\nold\n<!-- end of sides -->\n", encoding="utf-8")
    for function in (evidence.keep, evidence.section, evidence.recorded):
        bound = functools.partial(function, evidence=packed)
        monkeypatch.setattr(command, function.__name__, bound)
    monkeypatch.setattr(command, "EVIDENCE", packed)
    lines = results(ARMS)
    with pytest.raises(SystemExit, match="no data set is complete there"):
        command.main(["--keep", str(write(tmp_path / "a", lines[:-1])), "--write", str(text)])
    assert "digits" in capsys.readouterr().err
    assert "old" in text.read_text(encoding="utf-8")
    command.main(["--keep", str(write(tmp_path / "b", lines)), "--write", str(text)])
    written = text.read_text(encoding="utf-8").splitlines()
    assert [line for line in evidence.section(packed) if line not in written] == []
    assert "old" not in written
