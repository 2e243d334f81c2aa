"""Tables from a sweep's folder: what they hold, what is reported as wrong, and the cache."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis import budget, journal, load, pairings
from analysis.tables import collect
from supersnn.errors import UserError


def lines(folder: Path) -> list[str]:
    return (folder / "journal.jsonl").read_text().splitlines(keepends=True)


def rewrite(folder: Path, changed: list[str]) -> None:
    (folder / "journal.jsonl").write_text("".join(changed))


def said(sweep) -> str:
    return "\n".join(sweep.problems["problem"])


def test_tables_of_a_whole_sweep(synthetic):
    sweep = load.sweep(synthetic(trials=16))
    assert (sweep.name, sweep.complete, sweep.arms) == ("digits", True, ["direct", "homogeneous", "heterogeneous"])
    assert len(sweep.problems) == 0
    trials = sweep.trials
    assert len(trials) == 48
    assert trials["state"].value_counts().to_dict() == {"finished": 33, "stopped": 12, "failed": 3}
    assert set(trials.loc[trials["state"] == "failed", "reason"]) == {"silent"}
    pairing = trials.groupby("arm")["pairing"].unique().map(list).to_dict()
    assert pairing == {"direct": ["none"], "homogeneous": ["homogeneous"], "heterogeneous": ["heterogeneous"]}
    first = trials.iloc[0]
    assert first["seconds"] == pytest.approx(5 * 1.2)
    assert first["value"] == first["val/accuracy"]
    assert 0.3 <= first["neuron.threshold"] <= 2.0
    assert len(sweep.epochs) == trials["epochs"].sum()
    assert len(sweep.verified) == len(sweep.ledger) == 30
    assert sweep.verified["winner"].all()
    assert trials["winner"].sum() == 3
    assert sweep.layers.groupby(["arm", "seed"]).size().eq(3).all()
    assert sweep.teachers.set_index("name").loc["vgg8", "bank_seconds"] == 2.0
    assert sweep.provenance["split"] == "f00d"


def test_running_sweep_is_so_far(synthetic):
    folder = synthetic(done=False)
    told = lines(folder)
    rewrite(folder, told[:-1])  # the last trial has not ended
    sweep = load.sweep(folder)
    assert (sweep.ended, sweep.complete) == (None, False)
    assert sweep.trials["state"].value_counts()["running"] == 1
    assert len(sweep.verified) == 0
    assert len(sweep.problems) == 0


def test_an_empty_sweep_has_empty_tables(synthetic):
    folder = synthetic()
    for name in ("journal.jsonl", "verified.json", "test-ledger.jsonl"):
        (folder / name).unlink()
    sweep = load.sweep(folder)
    assert len(sweep.trials) == len(sweep.verified) == len(sweep.epochs) == 0
    assert sweep.trials["value"].dtype == "float64"


def test_first_of_two_equal_epochs_counts_and_different_ones_are_reported(synthetic):
    folder = synthetic()
    told = lines(folder)
    place = next(k for k, line in enumerate(told) if '"event":"epoch"' in line)
    rewrite(folder, [*told[: place + 1], told[place], *told[place + 1 :]])
    twice = load.sweep(folder)
    assert len(twice.epochs) == twice.trials["epochs"].sum()
    assert len(twice.problems) == 0
    changed = json.loads(told[place])
    changed["metrics"]["val/accuracy"] += 0.1
    rewrite(folder, [*told[: place + 1], json.dumps(changed) + "\n", *told[place + 1 :]])
    other = load.sweep(folder)
    assert "epoch 1 stands twice with different metrics" in said(other)
    assert other.epochs.equals(twice.epochs)


def test_a_continued_sweep_keeps_its_first_start_and_its_last_winner(synthetic):
    folder = synthetic()
    told = lines(folder)
    again = next(line for line in told if '"event":"start"' in line).replace('"resumed_at":0', '"resumed_at":3')
    winner = next(json.loads(line) for line in told if '"event":"winner"' in line and '"direct"' in line)
    moved = winner | {"trial": (winner["trial"] + 4) % 8}
    rewrite(folder, [*told, again, json.dumps(moved) + "\n"])
    (folder / "verified.json").unlink()
    sweep = load.sweep(folder)
    assert not sweep.trials.duplicated(["arm", "trial"]).any()
    assert sweep.trials["started"].iloc[0] < sweep.trials["ended"].iloc[0]
    direct = sweep.trials[(sweep.trials["arm"] == "direct") & sweep.trials["winner"]]
    assert direct["trial"].tolist() == [moved["trial"]]
    assert not sweep.verified.loc[sweep.verified["arm"] == "direct", "winner"].any()


def test_torn_last_line_and_broken_lines_are_reported(synthetic):
    folder = synthetic()
    whole = load.sweep(folder)
    told = lines(folder)
    rewrite(folder, [told[0], "{broken\n", '{"event":"epoch","arm":"direct"}\n', *told[1:], '{"event":"epo'])
    sweep = load.sweep(folder)
    assert sweep.trials.equals(whole.trials)
    assert len(sweep.problems) == 3
    assert "torn" in said(sweep)


def test_half_written_runs_are_reported(synthetic):
    folder = synthetic()
    told = lines(folder)

    def first(*texts: str) -> str:
        return next(line for line in told if all(text in line for text in texts))

    def with_changed(line: str, other: str = "") -> str:
        rewrite(folder, [other if kept == line else kept for kept in told])
        return said(load.sweep(folder))

    end = first('"event":"end"')
    assert "has no end, though the sweep is done" in with_changed(end)
    assert "its start is not in the journal" in with_changed(first('"event":"start"'))
    assert "1 of its 5 epochs are missing" in with_changed(first('"event":"epoch"', '"epoch":2'))
    assert "ended after 5 epochs, 4 are in the journal" in with_changed(first('"event":"epoch"', '"epoch":5'))
    assert "teacher vgg8: taught trials" in with_changed(first('"event":"teacher"', '"vgg8"'))
    other = json.dumps(json.loads(end) | {"value": 0.5}) + "\n"
    assert "its value 0.5000 is not its last epoch's val/accuracy" in with_changed(end, other)
    split = first('"event":"teacher"', '"vgg8"').replace("f00d", "beef")
    assert "teacher vgg8: trained on split beef, the sweep's is f00d" in with_changed(
        first('"event":"teacher"', '"vgg8"'), split
    )


def test_verified_results_that_disagree_are_reported(synthetic):
    folder = synthetic()
    stored = json.loads((folder / "verified.json").read_text())
    stored["arms"]["direct"]["results"][0]["test"] += 0.05
    (folder / "verified.json").write_text(json.dumps(stored))
    assert "in the journal and" in said(load.sweep(folder))
    (folder / "verified.json").write_text("{")
    assert "verified.json: not valid JSON" in said(load.sweep(folder))


def test_verified_json_fills_what_the_journal_lacks(synthetic):
    folder = synthetic()
    whole = load.sweep(folder).verified
    rewrite(folder, [line for line in lines(folder) if '"event":"verified"' not in line])
    filled = load.sweep(folder).verified
    pd.testing.assert_frame_equal(filled, whole, check_like=True)


def test_missing_fresh_seeds_are_reported(synthetic):
    folder = synthetic()
    (folder / "verified.json").unlink()
    told = lines(folder)
    gone = next(line for line in told if '"event":"verified"' in line)
    rewrite(folder, [line for line in told if line != gone])
    assert "9 of 10 fresh seeds are verified" in said(load.sweep(folder))


def test_several_sweeps_by_name_path_or_all(synthetic, tmp_path, monkeypatch):
    one, two = synthetic("one", seed=1), synthetic("two", seed=2)
    store = tmp_path / "store"
    named = load.sweeps("one", "two", store=store)
    assert [sweep.name for sweep in named] == ["one", "two"]
    assert len(named.trials) == sum(len(sweep.trials) for sweep in named)
    assert set(named.verified["sweep"]) == {"one", "two"}
    assert load.sweeps(one, two).trials.equals(named.trials)
    monkeypatch.setenv("SUPERSNN_STORE", str(store))
    assert load.sweeps().trials.equals(named.trials)
    assert collect([load.sweep(two)]).trials["sweep"].unique().tolist() == ["two"]


def test_missing_sweeps_are_the_users_mistake(synthetic, tmp_path):
    synthetic("one")
    with pytest.raises(UserError, match=r"onne: no such sweep in .*; there: one"):
        load.sweeps("onne", store=tmp_path / "store")
    with pytest.raises(UserError, match="no sweep here"):
        load.sweep(tmp_path)
    with pytest.raises(UserError, match="no sweep here"):
        load.sweeps(store=tmp_path / "nowhere")


def test_two_sweeps_of_one_name_are_refused(synthetic):
    sweep = load.sweep(synthetic())
    with pytest.raises(UserError, match="two sweeps are named 'digits'"):
        collect([sweep, sweep])


def test_a_teacher_trained_again_for_the_verification_costs_and_is_no_fault(synthetic):
    folder = synthetic()
    told = lines(folder)
    once = load.sweep(folder)
    event = next(json.loads(line) for line in told if '"event":"teacher"' in line and '"vgg8"' in line)
    event |= {"event": "refit", "digest": "t-again", "split": "beef", "bank_seconds": 4.0}
    rewrite(folder, [*told, json.dumps(event) + "\n"])
    twice = load.sweep(folder)
    assert len(twice.problems) == 0
    assert len(twice.teachers) == len(once.teachers) + 1
    costs = [budget.costs(s).set_index("arm") for s in (once, twice)]
    taught = twice.trials[twice.trials["winner"]].set_index("arm")["teacher"]
    assert "vgg8" in taught.tolist()
    for arm, teacher in taught.items():
        assert costs[1].loc[arm, "refit"] == (34.0 if teacher == "vgg8" else 0.0)
    assert (costs[1]["teacher"] == costs[0]["teacher"]).all()
    paths = [budget.progress(s.trials, s.teachers, with_teacher=True) for s in (once, twice)]
    pd.testing.assert_frame_equal(*paths)
    assert pairings.matrix(twice.trials, twice.teachers).equals(pairings.matrix(once.trials, once.teachers))


def test_spike_rates_by_layer_are_in_the_journal_too(synthetic):
    folder = synthetic(seeds=2)
    stored = load.sweep(folder).layers
    rates = {(row.arm, row.seed): {} for row in stored.itertuples()}
    for row in stored.itertuples():
        rates[row.arm, row.seed][row.layer] = row.rate
    told = [json.loads(line) for line in lines(folder)]
    for event in told:
        if event["event"] == "verified":
            event["rates"] = rates[event["arm"], event["seed"]]
    rewrite(folder, [json.dumps(event) + "\n" for event in told])
    pd.testing.assert_frame_equal(load.sweep(folder).layers, stored)
    (folder / "verified.json").unlink()
    alone = load.sweep(folder).layers.sort_values(["arm", "seed", "place"], ignore_index=True)
    pd.testing.assert_frame_equal(alone, stored.sort_values(["arm", "seed", "place"], ignore_index=True))


@pytest.fixture
def small_step(monkeypatch):
    monkeypatch.setattr(journal, "CACHE_STEP", 1)


def test_cache_grows_with_the_journal_and_changes_nothing(synthetic, small_step, monkeypatch):
    folder = synthetic()
    told = lines(folder)
    offsets = []
    real = journal._lines
    monkeypatch.setattr(journal, "_lines", lambda path, offset: offsets.append(offset) or real(path, offset))
    for share in (0.3, 0.6, 1.0):
        rewrite(folder, told[: int(share * len(told))])
        cached, plain = load.sweep(folder), load.sweep(folder, cache=False)
        for table in ("trials", "epochs", "verified", "teachers", "problems"):
            pd.testing.assert_frame_equal(getattr(cached, table), getattr(plain, table))
    sizes = [len("".join(told[: int(share * len(told))]).encode()) for share in (0.3, 0.6, 1.0)]
    assert offsets == [0, 0, sizes[0], 0, sizes[1], 0]
    load.sweep(folder)
    assert offsets[-1] == sizes[2]


def test_cache_of_another_journal_does_not_count(synthetic, small_step):
    folder = synthetic(seed=1)
    load.sweep(folder)
    told = lines(synthetic(seed=2))
    sweep = load.sweep(folder)
    assert len(sweep.epochs) == sum('"event":"epoch"' in line for line in told)
    assert sweep.trials.equals(load.sweep(folder, cache=False).trials)


def test_broken_cache_is_read_around(synthetic, small_step):
    folder = synthetic()
    whole = load.sweep(folder)
    (folder / "cache" / "epochs.parquet").write_bytes(b"no parquet")
    assert load.sweep(folder).epochs.equals(whole.epochs)
