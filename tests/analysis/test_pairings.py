"""Gains by pairing at equal trials, and the effects of a stronger teacher and of heterogeneity separated."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import compare, load, pairings
from analysis.figures import tradeoffs
from analysis.figures.style import description
from analysis.findings import findings
from analysis.tables import records

Write = Callable[..., Path]

TEACHERS = {
    "resnet8": ("resnet", 75_000, 0.950), "resnet14": ("resnet", 170_000, 0.956),
    "resnet20": ("resnet", 270_000, 0.968), "vgg8": ("vgg", 900_000, 0.958), "vgg11": ("vgg", 2_600_000, 0.971),
    "wrn16_2": ("wrn", 690_000, 0.965), "wrn28_4": ("wrn", 5_800_000, 0.974),
}  # fmt: skip
ARMS: dict[str, list[str | None]] = {
    "direct": [None],
    "homogeneous": [name for name in TEACHERS if name.startswith("resnet")],
    "heterogeneous": [name for name in TEACHERS if not name.startswith("resnet")],
}


def table(
    rng: np.random.Generator, effect: float = 0.0, per_point: float = 0.004, noise: float = 0.002, students: int = 3
) -> pd.DataFrame:
    """Pairings whose gain grows with the teacher's accuracy, and by `effect` where they are heterogeneous."""
    rows = [
        {"sweep": "s", "arm": arm, "student": f"student{k}", "teacher": name, "pairing": arm,
         "teacher_val": TEACHERS[name][2], "teacher_parameters": TEACHERS[name][1],
         "gain": 0.01 * k + per_point * 100 * (TEACHERS[name][2] - 0.95) + effect * (arm == "heterogeneous")
                 + rng.normal(0, noise)}
        for k in range(students) for arm, names in ARMS.items() for name in names if name
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_gain_is_taken_at_equal_trials(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(trials=24))
    matrix = pairings.matrix(sweep.trials, sweep.teachers).set_index(["arm", "teacher"])
    done = sweep.trials[sweep.trials["state"] == "finished"]
    fewest = done.groupby(["arm", "teacher"], dropna=False).size().min()
    rng = np.random.default_rng(0)

    def best_of(rows: pd.DataFrame) -> float:
        return float(np.mean([rng.choice(rows["value"], fewest, replace=False).max() for _ in range(4000)]))

    vgg = done[done["teacher"] == "vgg8"]
    gain = best_of(vgg) - best_of(done[done["arm"] == "direct"])
    assert matrix.loc[("heterogeneous", "vgg8"), "gain"] == pytest.approx(gain, abs=5e-4)
    assert matrix.loc[("heterogeneous", "vgg8"), "trials"] == len(vgg)
    assert matrix.loc[("heterogeneous", "vgg8"), "teacher_seconds"] == 32.0
    assert matrix.loc[("heterogeneous", "vgg8"), "seconds"] == pytest.approx(7.5)


def test_data_sets_have_rows_of_their_own(synthetic: Write) -> None:
    """As on their own: a harder data set takes no part in the scores of another, nor do its teachers."""
    sweep = load.sweep(synthetic(trials=24, datasets=["a", "b"]))
    trials, teachers = sweep.trials.copy(), sweep.teachers.copy()
    trials.loc[trials["dataset"] == "b", "value"] -= 0.3
    teachers.loc[teachers["dataset"] == "b", ["val_accuracy", "seconds"]] = [0.6, 300.0]
    matrix = pairings.matrix(trials, teachers)
    for name, part in matrix.groupby("dataset"):
        own, of_own = (table[table["dataset"] == name] for table in (trials, teachers))
        pd.testing.assert_frame_equal(part.reset_index(drop=True), pairings.matrix(own, of_own))
    found = matrix.set_index(["dataset", "teacher"])
    assert found.loc[("a", "vgg8"), "teacher_val"] == sweep.teachers["val_accuracy"][1]
    assert [found.loc[("b", "vgg8"), name] for name in ("teacher_val", "teacher_seconds")] == [0.6, 302.0]
    assert matrix["gain"].abs().max() < 0.1
    names = [picture.x for picture in tradeoffs.pairing_matrix(matrix).data]
    assert names == [("resnet8 · a", "resnet8 · b")]


def test_scores_and_teachers_are_means_over_replicates(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(trials=24, replicates=3))
    again = [sweep.teachers.assign(replicate=k, val_accuracy=0.9 + 0.01 * k, seconds=10.0 * k) for k in range(3)]
    teachers = pd.concat(again, ignore_index=True)
    matrix = pairings.matrix(sweep.trials, teachers)
    each = [pairings.matrix(sweep.trials[sweep.trials["replicate"] == k], teachers) for k in range(3)]
    for column in ("score", "direct", "gain"):
        means = np.mean([one[column].to_numpy() for one in each], axis=0)
        assert matrix[column].to_numpy() == pytest.approx(means)
    assert matrix["trials"].tolist() == np.sum([one["trials"] for one in each], axis=0).tolist()
    paired = matrix[matrix["teacher"].notna()]
    assert paired["teacher_val"].to_numpy() == pytest.approx(0.91)
    assert paired["teacher_seconds"].to_numpy() == pytest.approx(12.0)


def test_teachers_strength_is_said_of_each_data_set(synthetic: Write) -> None:
    folder = synthetic(datasets=["a", "b"])
    journal = folder / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in lines:
        if event["event"] == "teacher" and event.get("dataset") == "b":
            event["val_accuracy"] = {"resnet8": 0.5, "vgg8": 0.6, "wrn16_2": 0.7}[event["name"]]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sweep = load.sweep(folder)
    said = [text for text in findings(sweep, compare.verdicts(sweep.verified)) if "stronger or larger" in text]
    assert [("on a," in text, "on b," in text) for text in said] == [(True, False), (False, True)]
    assert "heterogeneous teachers reach 65.00 % themselves, homogeneous ones 50.00 %" in said[1]


def test_a_teacher_without_a_finished_trial_is_named(synthetic: Write) -> None:
    folder = synthetic(trials=8)
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    teachers = {(e["arm"], e["trial"]): e["config"]["teacher.name"] for e in lines if e["event"] == "start"}
    for event in lines:
        if event["event"] == "end" and teachers[event["arm"], event["trial"]] == "wrn16_2":
            event["end"] = "stopped"
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sweep = load.sweep(folder)
    table = pairings.matrix(sweep.trials, sweep.teachers).dropna(subset=["teacher"]).set_index("teacher")
    assert table["trials"].to_dict()["wrn16_2"] == table["finished"].to_dict()["wrn16_2"] == 0
    assert table["gain"].isna().to_dict() == {"resnet8": False, "vgg8": False, "wrn16_2": True}
    picture = tradeoffs.pairing_matrix(table.reset_index())
    assert [(note.y, note.text) for note in picture.layout.annotations] == [("wrn16_2", "no finished trial")]
    assert "wrn16_2 for resnet8: no finished trial." in description(picture)


def test_one_better_teacher_is_not_heterogeneity() -> None:
    rng = np.random.default_rng(0)
    naive = covered = 0
    for _ in range(400):
        drawn = table(rng)
        means = drawn.groupby("pairing")["gain"].mean()
        naive += means["heterogeneous"] - means["homogeneous"] > 0.002
        effect = records(pairings.teacher_effect(drawn))[0]
        covered += effect["low"] <= 0 <= effect["high"]
    assert naive > 360
    assert 0.92 <= covered / 400 <= 0.98


def test_a_real_effect_is_separated_from_the_teachers_strength() -> None:
    rng = np.random.default_rng(1)
    effects = [records(pairings.teacher_effect(table(rng, effect=0.01))) for _ in range(100)]
    assert np.mean([heterogeneous["low"] > 0 for heterogeneous, _, _ in effects]) > 0.95
    assert np.mean([accuracy["estimate"] for _, accuracy, _ in effects]) == pytest.approx(0.004, rel=0.1)


def test_what_the_teachers_cannot_separate_has_no_estimate() -> None:
    few = table(np.random.default_rng(2), students=1)
    few = few[few["teacher"].isin(["resnet8", "vgg8", "wrn16_2"])]
    effect = pairings.teacher_effect(few)
    assert effect["estimate"].isna().all()
    assert effect["note"].str.contains("cannot be separated").all()
    none = pairings.teacher_effect(few[few["teacher"].isna()])
    assert none["estimate"].isna().all()


def test_the_regression_agrees_with_least_squares_with_a_constant_a_block() -> None:
    drawn = table(np.random.default_rng(3), effect=0.005)
    heterogeneous = (drawn["pairing"] == "heterogeneous").astype(float)
    blocks = pd.get_dummies(drawn["student"]).to_numpy(dtype=float)
    x = np.column_stack([heterogeneous, 100 * drawn["teacher_val"], np.log10(drawn["teacher_parameters"]), blocks])
    slow = np.linalg.lstsq(x, drawn["gain"].to_numpy(), rcond=None)[0]
    effect = pairings.teacher_effect(drawn)
    assert effect["estimate"].to_numpy() == pytest.approx(slow[:3])
    assert (effect["freedom"] == len(drawn) - 6).all()
