"""Tables from a sweep's folder, the problems that are reported, and the cache."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from analysis import budget, journal, load, pairings
from analysis.tables import Sweep, collect
from supersnn.errors import UserError
from supersnn.records import journal as records_journal
from supersnn.records.events import AnyEvent

Write = Callable[..., Path]


def lines(folder: Path) -> list[str]:
    return (folder / "journal.jsonl").read_text().splitlines(keepends=True)


def rewrite(folder: Path, changed: list[str]) -> None:
    (folder / "journal.jsonl").write_text("".join(changed))


def problems(sweep: Sweep) -> str:
    return "\n".join(sweep.problems["problem"])


def test_tables_of_a_complete_sweep(synthetic: Write) -> None:
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


def test_running_sweep_is_so_far(synthetic: Write) -> None:
    folder = synthetic(done=False)
    rewrite(folder, lines(folder)[:-1])  # the last trial has not ended
    sweep = load.sweep(folder)
    assert (sweep.ended, sweep.complete) == (None, False)
    assert sweep.trials["state"].value_counts()["running"] == 1
    assert len(sweep.verified) == 0
    assert len(sweep.problems) == 0


def test_an_empty_sweep_has_empty_tables(synthetic: Write) -> None:
    folder = synthetic()
    for name in ("journal.jsonl", "verified.json", "test-ledger.jsonl"):
        (folder / name).unlink()
    sweep = load.sweep(folder)
    assert len(sweep.trials) == len(sweep.verified) == len(sweep.epochs) == 0
    assert sweep.trials["value"].dtype == "float64"


def test_first_of_two_equal_epochs_counts_and_different_ones_are_reported(synthetic: Write) -> None:
    folder = synthetic()
    written = lines(folder)
    first = next(k for k, line in enumerate(written) if '"event":"epoch"' in line)
    rewrite(folder, [*written[: first + 1], *written[first:]])
    twice = load.sweep(folder)
    assert len(twice.epochs) == twice.trials["epochs"].sum()
    assert len(twice.problems) == 0
    changed = json.loads(written[first])
    changed["metrics"]["val/accuracy"] += 0.1
    rewrite(folder, [*written[: first + 1], json.dumps(changed) + "\n", *written[first + 1 :]])
    different = load.sweep(folder)
    assert "epoch 1 was reported twice with different metrics" in problems(different)
    assert different.epochs.equals(twice.epochs)


def test_a_continued_sweep_keeps_its_first_start_and_its_last_winner(synthetic: Write) -> None:
    folder = synthetic()
    written = lines(folder)
    end = next(k for k, line in enumerate(written) if '"event":"end"' in line)
    restart = next(line for line in written if '"event":"start"' in line).replace('"resumed_at":0', '"resumed_at":3')
    winner = next(json.loads(line) for line in written if '"event":"winner"' in line and '"direct"' in line)
    moved = winner | {"trial": (winner["trial"] + 4) % 8}
    rewrite(folder, [*written[:end], restart, *written[end:], json.dumps(moved) + "\n"])
    sweep = load.sweep(folder)
    assert not sweep.trials.duplicated(["arm", "trial"]).any()
    assert sweep.trials["started"].iloc[0] < sweep.trials["ended"].iloc[0]
    direct = sweep.trials[(sweep.trials["arm"] == "direct") & sweep.trials["winner"]]
    assert direct["trial"].tolist() == [moved["trial"]]
    assert not sweep.verified.loc[sweep.verified["arm"] == "direct", "winner"].any()


def test_torn_last_line_and_broken_lines_are_reported(synthetic: Write) -> None:
    folder = synthetic()
    intact, written = load.sweep(folder), lines(folder)
    rewrite(folder, [written[0], "{broken\n", '{"event":"epoch","arm":"direct"}\n', *written[1:], '{"event":"epo'])
    sweep = load.sweep(folder)
    assert sweep.trials.equals(intact.trials)
    assert len(sweep.problems) == 3
    assert "torn" in problems(sweep)


def test_incomplete_records_are_reported(synthetic: Write) -> None:
    folder = synthetic()
    written = lines(folder)

    def first(*texts: str) -> str:
        return next(line for line in written if all(text in line for text in texts))

    def with_changed(line: str, other: str = "") -> str:
        rewrite(folder, [other if kept == line else kept for kept in written])
        return problems(load.sweep(folder))

    end = first('"event":"end"')
    assert "has no end, though the sweep is done" in with_changed(end)
    assert "its start is not in the journal" in with_changed(first('"event":"start"'))
    assert "1 of its 5 epochs are missing" in with_changed(first('"event":"epoch"', '"epoch":2'))
    assert "ended after 5 epochs, 4 are in the journal" in with_changed(first('"event":"epoch"', '"epoch":5'))
    assert "teacher vgg8: used by trials" in with_changed(first('"event":"teacher"', '"vgg8"'))
    assert "teacher vgg8: its cache is not in the journal" in with_changed(first('"event":"bank"', '"vgg8"'))
    other = json.dumps(json.loads(end) | {"value": 0.5}) + "\n"
    assert "its value 0.5000 is not its last epoch's val/accuracy" in with_changed(end, other)
    split = first('"event":"teacher"', '"vgg8"').replace("f00d", "beef")
    assert "teacher vgg8: trained on split beef, the sweep's is f00d" in with_changed(
        first('"event":"teacher"', '"vgg8"'), split
    )


def test_verified_results_that_disagree_are_reported(synthetic: Write) -> None:
    folder = synthetic()
    stored = json.loads((folder / "verified.json").read_text())
    stored["arms"]["direct"]["results"][0]["test"] += 0.05
    (folder / "verified.json").write_text(json.dumps(stored))
    assert "in the journal and" in problems(load.sweep(folder))
    (folder / "verified.json").write_text("{")
    assert "verified.json: not valid JSON" in problems(load.sweep(folder))


def test_verified_json_is_compared_and_is_no_source(synthetic: Write) -> None:
    folder = synthetic()
    complete = load.sweep(folder)
    assert len(complete.problems) == 0
    removed = next(line for line in lines(folder) if '"event":"verified"' in line)
    rewrite(folder, [line for line in lines(folder) if line != removed])
    sweep = load.sweep(folder)
    assert len(sweep.verified) == len(complete.verified) - 1
    assert f"seed {json.loads(removed)['seed']}: in verified.json, but not in the journal" in problems(sweep)
    (folder / "verified.json").unlink()
    pd.testing.assert_frame_equal(load.sweep(folder).verified, sweep.verified)


def test_missing_fresh_seeds_are_reported(synthetic: Write) -> None:
    folder = synthetic()
    (folder / "verified.json").unlink()
    removed = next(line for line in lines(folder) if '"event":"verified"' in line)
    rewrite(folder, [line for line in lines(folder) if line != removed])
    assert "9 of 10 fresh seeds are verified" in problems(load.sweep(folder))


def test_sweeps_by_name_path_or_all(synthetic: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = synthetic("one", seed=1), synthetic("two", seed=2)
    store = tmp_path / "store"
    named = load.sweeps("one", "two", store=store)
    assert [sweep.name for sweep in named] == ["one", "two"]
    assert len(named.trials) == sum(len(sweep.trials) for sweep in named)
    assert set(named.verified["sweep"]) == {"one", "two"}
    assert load.sweeps(first, second).trials.equals(named.trials)
    monkeypatch.setenv("SUPERSNN_STORE", str(store))
    assert load.sweeps().trials.equals(named.trials)
    assert collect([load.sweep(second)]).trials["sweep"].unique().tolist() == ["two"]


def test_missing_sweeps_are_the_users_mistake(synthetic: Write, tmp_path: Path) -> None:
    synthetic("one")
    with pytest.raises(UserError, match=r"onne: no such sweep in .*; known: one"):
        load.sweeps("onne", store=tmp_path / "store")
    with pytest.raises(UserError, match="not a sweep: expected a folder"):
        load.sweep(tmp_path)
    with pytest.raises(UserError, match="no sweeps found"):
        load.sweeps(store=tmp_path / "nowhere")


def test_two_sweeps_of_one_name_are_refused(synthetic: Write) -> None:
    sweep = load.sweep(synthetic())
    with pytest.raises(UserError, match="two sweeps are named 'digits'"):
        collect([sweep, sweep])


def test_a_refitted_teacher_costs_and_is_no_problem(synthetic: Write) -> None:
    folder = synthetic()
    once, written = load.sweep(folder), lines(folder)
    event = next(json.loads(line) for line in written if '"event":"teacher"' in line and '"vgg8"' in line)
    event |= {"event": "refit", "digest": "t-again", "split": "beef", "bank_seconds": 4.0}
    rewrite(folder, [*written, json.dumps(event) + "\n"])
    twice = load.sweep(folder)
    assert len(twice.problems) == 0
    assert len(twice.teachers) == len(once.teachers) + 1
    costs = [budget.costs(s).set_index("arm") for s in (once, twice)]
    teachers = twice.trials[twice.trials["winner"]].set_index("arm")["teacher"].to_dict()
    assert "vgg8" in teachers.values()
    assert costs[1]["refit"].to_dict() == {arm: 34.0 if name == "vgg8" else 0.0 for arm, name in teachers.items()}
    assert (costs[1]["teacher"] == costs[0]["teacher"]).all()
    before, after = (budget.progress(s.trials, s.teachers, with_teacher=True) for s in (once, twice))
    pd.testing.assert_frame_equal(before, after)
    assert pairings.matrix(twice.trials, twice.teachers).equals(pairings.matrix(once.trials, once.teachers))


def test_layers_are_in_the_networks_order(synthetic: Write) -> None:
    layers = load.sweep(synthetic(seeds=2)).layers
    for _, part in layers.groupby(["arm", "seed"]):
        assert part["position"].tolist() == [0, 1, 2]
        assert part["layer"].tolist() == ["layer0", "layer1", "layer2"]
    assert layers.groupby("position")["rate"].mean().is_monotonic_decreasing


@pytest.fixture
def small_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CACHE_STEP", 1)


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets from which the journal has been read."""
    read, starts = records_journal.read, list[int]()

    def counting(path: Path, offset: int = 0, *, faults: list[str] | None = None) -> Iterator[tuple[AnyEvent, int]]:
        starts.append(offset)
        return read(path, offset, faults=faults)

    monkeypatch.setattr(records_journal, "read", counting)
    return starts


@pytest.mark.usefixtures("small_step")
def test_cache_grows_with_the_journal_and_changes_nothing(synthetic: Write, offsets: list[int]) -> None:
    folder = synthetic()
    written = lines(folder)
    for share in (0.3, 0.6, 1.0):
        rewrite(folder, written[: int(share * len(written))])
        cached, plain = load.sweep(folder), load.sweep(folder, cache=False)
        for table in ("trials", "epochs", "verified", "layers", "teachers", "problems"):
            pd.testing.assert_frame_equal(getattr(cached, table), getattr(plain, table))
        assert cached.state == plain.state
    sizes = [len("".join(written[: int(share * len(written))]).encode()) for share in (0.3, 0.6, 1.0)]
    assert offsets == [0, 0, sizes[0], 0, sizes[1], 0]
    load.sweep(folder)
    assert offsets[-1] == sizes[2]


@pytest.mark.usefixtures("small_step")
def test_cache_of_another_journal_does_not_count(synthetic: Write) -> None:
    folder = synthetic(seed=1)
    load.sweep(folder)
    written = lines(synthetic(seed=2))
    sweep = load.sweep(folder)
    assert len(sweep.epochs) == sum('"event":"epoch"' in line for line in written)
    assert sweep.trials.equals(load.sweep(folder, cache=False).trials)


@pytest.mark.usefixtures("small_step")
def test_cache_of_other_constraints_does_not_count(synthetic: Write) -> None:
    folder = synthetic()
    assert load.sweep(folder).trials["feasible"].dropna().all()
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("constraints: {}", "constraints: {spikes/rate: 0.0}"))
    assert not load.sweep(folder).trials["feasible"].dropna().any()


@pytest.mark.parametrize("name", ["epochs.parquet", "state.json"])
@pytest.mark.parametrize("content", [b"", b"damaged", None])
@pytest.mark.usefixtures("small_step")
def test_damaged_cache_is_ignored(synthetic: Write, offsets: list[int], name: str, content: bytes | None) -> None:
    folder = synthetic()
    intact = load.sweep(folder)
    file = folder / "cache" / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert load.sweep(folder).epochs.equals(intact.epochs)
    assert offsets == [0, 0]
    load.sweep(folder)
    assert offsets[-1] == (folder / "journal.jsonl").stat().st_size


@pytest.mark.usefixtures("small_step")
def test_cache_parts_of_different_offsets_are_ignored(synthetic: Write) -> None:
    folder = synthetic()
    written = lines(folder)
    rewrite(folder, written[: len(written) // 2])
    load.sweep(folder)
    earlier = (folder / "cache" / "epochs.parquet").read_bytes()
    rewrite(folder, written)
    complete = load.sweep(folder)
    (folder / "cache" / "epochs.parquet").write_bytes(earlier)
    assert load.sweep(folder).epochs.equals(complete.epochs)
