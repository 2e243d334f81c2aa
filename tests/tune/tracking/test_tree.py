import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from supersnn.digests import digest
from supersnn.records import snapshot
from supersnn.records.event_base import Event
from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    DriverEnd,
    EpochReported,
    RequestTaken,
    SweepClosed,
    SweepStarted,
    TrialEnded,
    TrialRanked,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
    parse,
)
from tune.tracking.changes import Change, Point
from tune.tracking.runs import UnknownRunError
from tune.tracking.tree import Tree

E = TypeVar("E", bound=Event)
FOLDER = Path("/sweep")


def changes_of(config: Mapping[str, Any], events: Iterable[AnyEvent], folder: Path = FOLDER) -> dict[str, Change]:
    """The changes of all events by the part of the run's key behind the sweep's."""
    tree = Tree("digits", config, folder)
    for event in events:
        tree.read(event)
    return by_key(tree)


def by_key(tree: Tree) -> dict[str, Change]:
    return {change.run.key.partition("/")[2]: change for change in tree.take()}


def values(change: Change, metric: str) -> dict[int, float]:
    return {point.step: point.value for point in change.points if point.name == metric}


def first(events: Iterable[Event], kind: type[E], arm: str | None = None) -> E:
    return next(e for e in events if isinstance(e, kind) and (arm is None or getattr(e, "arm", None) == arm))


def with_fields(event: E, **fields: Any) -> E:
    return event.model_copy(update=fields)


def test_levels_and_parents(config: dict[str, Any], events: list[AnyEvent]) -> None:
    changes = changes_of(config, events)
    levels = {key: change.run.tags["supersnn.level"] for key, change in changes.items()}
    assert levels[""] == "sweep"
    assert levels["direct"] == "arm"
    assert levels["direct/1"] == "trial"
    assert levels["direct/0/verify/1001"] == "verification"
    parents = {key: change.run.parent for key, change in changes.items()}
    assert parents[""] is None
    assert parents["direct"] == changes[""].run
    assert parents["direct/1"] == parents["direct/0/verify/1001"] == changes["direct"].run


def test_names_are_readable(config: dict[str, Any], events: list[AnyEvent]) -> None:
    changes = changes_of(config, events)
    assert changes["heterogeneous/1"].run.name == "heterogeneous #1 vgg8→resnet8"
    assert changes["direct/0"].run.name == "direct #0 resnet8"
    assert changes["heterogeneous/0/verify/1001"].run.name == "heterogeneous verify seed 1001"


@pytest.mark.parametrize(
    ("arm", "pairing", "family"),
    [("direct", "none", None), ("homogeneous", "homogeneous", "resnet"), ("heterogeneous", "heterogeneous", "vgg")],
)
def test_pairing_follows_from_the_families(
    config: dict[str, Any], events: list[AnyEvent], arm: str, pairing: str, family: str | None
) -> None:
    changes = changes_of(config, events)
    for tags in (changes[f"{arm}/0"].run.tags, changes[f"{arm}/0/verify/1000"].run.tags, changes[arm].tags):
        assert tags["supersnn.pairing"] == pairing
        assert tags.get("supersnn.teacher_family") == family
        assert tags["supersnn.student_family"] == "resnet"


def test_pairing_of_the_start_event_is_kept(config: dict[str, Any], events: list[AnyEvent]) -> None:
    start = first(events, TrialStarted, "heterogeneous")
    known = with_fields(start, teacher_family="mine", pairing="homogeneous")
    tags = changes_of(config, [known if e is start else e for e in events])["heterogeneous/0"].run.tags
    assert (tags["supersnn.teacher_family"], tags["supersnn.pairing"]) == ("mine", "homogeneous")


@pytest.mark.parametrize("sent", [False, True])
def test_an_arm_that_was_added_meanwhile_has_its_params_and_the_sweep_is_stored_as_it_is_now(
    config: dict[str, Any], events: list[AnyEvent], sent: bool
) -> None:
    def change(number: int, refused: str | None = None, **values: Any) -> RequestTaken:
        keys = {key.replace("_", "."): value for key, value in values.items()}
        return RequestTaken(id=str(number), kind="change", values=keys, refused=refused)

    def trials(tree: Tree) -> int:
        return int(yaml.safe_load(by_key(tree)[""].files["config.yaml"])["search"]["trials"])

    tree = Tree("digits", config, FOLDER)
    start, given = first(events, SweepStarted), first(events, TrialStarted, "heterogeneous")
    tree.read(start)
    assert trials(tree) == 2
    added = [change(1, arms_late={"teachers": ["vgg8"]}), change(2, search_trials=9)]
    for event in (*added, change(3, search_trials=7, refused="no"), added[1]):
        if sent:
            tree.skip(event)
        else:
            tree.read(event)
    assert sent or trials(tree) == 9
    tree.read(with_fields(given, arm="late"))
    assert by_key(tree)["late"].params["teachers"] == '["vgg8"]'
    tree.read(with_fields(start, driver="next", resumed=True))
    assert trials(tree) == 2, "what the next driver has found"


def test_arm_lists_every_teacher_of_its_trials(config: dict[str, Any], events: list[AnyEvent]) -> None:
    start = first(events, TrialStarted, "heterogeneous")
    other = with_fields(start, trial=9, config={**start.config, "teacher.name": "resnet14"})
    arm = changes_of(config, [*events, other])["heterogeneous"]
    assert arm.tags["supersnn.teacher"] == "resnet14, vgg8"
    assert arm.tags["supersnn.pairing"] == "heterogeneous, homogeneous"


def test_trial_has_the_facts_of_its_teacher(config: dict[str, Any], events: list[AnyEvent]) -> None:
    tags = changes_of(config, events)["heterogeneous/0"].run.tags
    assert tags["supersnn.teacher_digest"] == "beef"
    assert tags["supersnn.teacher_accuracy"] == "0.9"
    assert tags["supersnn.teacher_parameters"] == "9"


def test_params_are_the_configuration(config: dict[str, Any], events: list[AnyEvent]) -> None:
    params = changes_of(config, events)["heterogeneous/0"].params
    assert params.keys() == first(events, TrialStarted, "heterogeneous").config.keys()
    assert params["teacher.name"] == "vgg8"
    assert params["optimizer.lr"] == "0.1"
    assert params["optimizer.clip"] == "null"


def test_params_of_an_arm_are_its_section(config: dict[str, Any], events: list[AnyEvent]) -> None:
    assert changes_of(config, events)["heterogeneous"].params == {"teachers": '["vgg8"]'}


def test_sweep_has_no_param_that_a_continued_sweep_may_change(config: dict[str, Any], events: list[AnyEvent]) -> None:
    params = changes_of(config, events)[""].params
    assert "search.trials" not in params
    assert params["student.architecture"] == "resnet8"


def test_trial_ends_once(config: dict[str, Any], events: list[AnyEvent]) -> None:
    repeated = [with_fields(e, time=e.time + 1000) for e in events if isinstance(e, TrialEnded)]
    assert changes_of(config, [*events, *repeated]) == changes_of(config, events)


def test_epochs_are_steps_and_the_first_report_counts(config: dict[str, Any], events: list[AnyEvent]) -> None:
    repeated = [with_fields(e, time=e.time + 0.5) for e in events if isinstance(e, EpochReported)]
    changes = changes_of(config, [*events[:-1], *repeated, events[-1]])
    points = [p for p in changes["homogeneous/0"].points if p.name == "val/accuracy"]
    assert [(p.step, p.value) for p in points] == [(1, 0.15), (2, 0.2), (3, 0.25)]
    assert {p.time for p in points} <= {e.time for e in events}
    assert changes["homogeneous/0"].status == "FINISHED"


def test_means_over_seeds_are_logged_as_they_are(config: dict[str, Any], events: list[AnyEvent]) -> None:
    last = [e for e in events if isinstance(e, EpochReported) and (e.arm, e.trial) == ("direct", 0)][-1]
    means = with_fields(last, epoch=4, metrics={"val/accuracy": 0.3, "mean/val/accuracy": 0.2})
    at = events.index(last) + 1
    trial = changes_of(config, [*events[:at], means, *events[at:]])["direct/0"]
    assert values(trial, "val/accuracy")[4] == 0.3
    assert values(trial, "mean/val/accuracy") == {4: 0.2}


@pytest.mark.parametrize(
    ("end", "status"), [("finished", "FINISHED"), ("stopped", "FINISHED"), ("failed:NaN loss", "FAILED")]
)
def test_trial_end(config: dict[str, Any], events: list[AnyEvent], end: str, status: str) -> None:
    ended = [with_fields(e, end=end) if isinstance(e, TrialEnded) else e for e in events]
    change = changes_of(config, ended)["direct/0"]
    assert change.status == status
    assert change.tags["supersnn.end"] == end


@pytest.mark.parametrize(("starts", "file"), [(1, "traceback.txt"), (2, "traceback-2.txt"), (2, "traceback.txt")])
def test_failed_trial_has_the_path_of_its_traceback(
    starts: int, file: str, config: dict[str, Any], events: list[AnyEvent], tmp_path: Path
) -> None:
    """That of its last attempt; earlier versions had one name for all."""
    folder = tmp_path / "sweeps" / "digits"
    (folder / "trials/direct/0").mkdir(parents=True)
    (folder / "trials/direct/0" / file).write_text("ValueError")
    failed = [with_fields(e, end="failed:ValueError") if isinstance(e, TrialEnded) else e for e in events]
    start = first(events, TrialStarted, "direct")
    at = failed.index(start)
    changes = changes_of(config, [*failed[:at], *[start] * (starts - 1), *failed[at:]], folder)
    assert changes["direct/0"].tags["supersnn.traceback"] == f"sweeps/digits/trials/direct/0/{file}"
    assert "supersnn.traceback" not in changes["direct/1"].tags


@pytest.mark.parametrize(("end", "status"), [("done", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED")])
def test_sweep_end(config: dict[str, Any], events: list[AnyEvent], end: DriverEnd, status: str) -> None:
    close = first(events, SweepClosed)
    changes = changes_of(config, [*events[:-1], with_fields(close, end=end)])
    assert changes[""].status == changes["direct"].status == status
    assert changes["direct/0"].status == "FINISHED"


def interrupted(events: list[AnyEvent]) -> list[AnyEvent]:
    """The events up to the first trial's end, without a close."""
    return events[: events.index(first(events, TrialEnded))]


def test_interrupted_trials_are_killed_and_continued(config: dict[str, Any], events: list[AnyEvent]) -> None:
    part = [*interrupted(events), SweepClosed(time=1.8e9, driver="d1", end="interrupted")]
    killed = changes_of(config, part)["direct/0"]
    assert (killed.status, killed.ended) == ("KILLED", 1.8e9)
    restarted: list[AnyEvent] = [with_fields(first(events, SweepStarted), resumed=True), first(events, TrialStarted)]
    continued = changes_of(config, [*part, *restarted])
    assert continued["direct/0"].status == continued["direct"].status == continued[""].status == "RUNNING"
    assert continued["direct/0"].ended is None


def test_trials_of_a_killed_driver_end_with_its_last_event(config: dict[str, Any], events: list[AnyEvent]) -> None:
    part = interrupted(events)
    resumed = with_fields(first(events, SweepStarted), time=1.8e9, resumed=True)
    killed = changes_of(config, [*part, resumed])
    assert (killed["direct/0"].status, killed["direct/0"].ended) == ("KILLED", part[-1].time)
    assert killed["direct"].status == killed[""].status == "RUNNING"


def test_counts_and_best_of_an_arm(config: dict[str, Any], events: list[AnyEvent]) -> None:
    arm = changes_of(config, events)["homogeneous"]
    assert values(arm, "trials/started")[2] == 2
    assert values(arm, "trials/finished")[2] == 1
    assert values(arm, "trials/stopped")[2] == 1
    assert values(arm, "trials/failed")[2] == 0
    assert values(arm, "val/best")[2] == 0.25  # trial 0 after 3 epochs; trial 1 was stopped


def test_counts_and_best_of_the_sweep(config: dict[str, Any], events: list[AnyEvent]) -> None:
    sweep = changes_of(config, events)[""]
    assert values(sweep, "trials/started")[6] == 6
    assert values(sweep, "trials/finished")[6] == 3
    assert values(sweep, "val/best")[6] == pytest.approx(0.35)


def constrained(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "search": {"trials": 2, "constraints": {"spikes/rate": 0.3}}}


def two_trials(events: list[AnyEvent], stated: bool) -> list[AnyEvent]:
    """One arm: trial 0 has 0.9 and too high a firing rate, trial 1 has 0.7; `stated`: their ends say so."""
    started = events[:3]
    start = first(events, TrialStarted)
    for trial, value, rate in ((0, 0.9, 0.5), (1, 0.7, 0.2)):
        key: dict[str, Any] = {"arm": "direct", "trial": trial, "time": 1.7e9 + 100 + trial}
        started += [
            with_fields(start, **key),
            EpochReported(**key, epoch=1, metrics={"val/accuracy": value, "spikes/rate": rate}),
            TrialEnded(**key, end="finished", value=value, feasible=rate < 0.3 if stated else None),
        ]
    return started


@pytest.mark.parametrize("stated", [True, False])
def test_best_value_is_the_feasible_one(config: dict[str, Any], events: list[AnyEvent], stated: bool) -> None:
    changes = changes_of(constrained(config), two_trials(events, stated))
    assert values(changes["direct"], "val/best") == {2: 0.7}
    assert values(changes[""], "val/best") == {2: 0.7}
    assert changes["direct/0"].tags["supersnn.feasible"] == "no"
    assert changes["direct/1"].tags["supersnn.feasible"] == "yes"


def test_no_feasible_tag_without_constraints(config: dict[str, Any], events: list[AnyEvent]) -> None:
    assert "supersnn.feasible" not in changes_of(config, events)["direct/0"].tags


def test_verified_results_of_an_arm(config: dict[str, Any], make_events: Callable[..., list[AnyEvent]]) -> None:
    arm = changes_of(config, make_events(seeds=3))["direct"]
    tests = [0.4, 0.5, 0.6]
    assert values(arm, "test/mean")[3] == pytest.approx(statistics.fmean(tests))
    assert values(arm, "test/sd") == {2: pytest.approx(statistics.stdev(tests[:2])), 3: pytest.approx(0.1)}
    assert values(arm, "test/seeds")[3] == 3
    assert values(arm, "spikes/rate")[3] == 0.25


def only_verification(config: dict[str, Any], events: list[AnyEvent], **fields: Any) -> Change:
    """The change of the first verification, whose event has other fields."""
    verified = first(events, WinnerVerified)
    changes = changes_of(config, [*events[: events.index(verified)], with_fields(verified, **fields)])
    (change,) = (change for key, change in changes.items() if "/verify/" in key)
    return change


def test_verification_has_firing_rates_by_layer(config: dict[str, Any], events: list[AnyEvent]) -> None:
    change = only_verification(config, events, rates={"activation": 0.4, "body.3": 0.1})
    points = {point.name: point.value for point in change.points}
    assert (points["spikes/rate/activation"], points["spikes/rate/body.3"]) == (0.4, 0.1)
    assert points["spikes/rate"] == first(events, WinnerVerified).metrics["spikes/rate"]


def test_verification_states_when_it_opened_the_test_images(config: dict[str, Any], events: list[AnyEvent]) -> None:
    change = only_verification(config, events, opened=1.8e9)
    assert change.run.tags["supersnn.test_opened"] == "2027-01-15T08:00:00+00:00"


@pytest.mark.parametrize(("ended", "status"), [("finished", "FINISHED"), ("failed:NaN loss", "FAILED")])
def test_verification_end(config: dict[str, Any], events: list[AnyEvent], ended: str, status: str) -> None:
    change = only_verification(config, events, ended=ended)
    assert (change.run.tags["supersnn.end"], change.status) == (ended, status)


def test_sweep_shows_the_arm_whose_fresh_seeds_validate_best(config: dict[str, Any], events: list[AnyEvent]) -> None:
    better = [
        with_fields(e, metrics={**e.metrics, "test/accuracy": 0.99})
        if isinstance(e, WinnerVerified) and e.arm == "direct"
        else e
        for e in events
    ]
    sweep = changes_of(config, better)[""]
    assert sweep.tags["supersnn.best_arm"] == "heterogeneous"
    assert list(values(sweep, "test/mean")) == [1, 2, 3, 4, 5, 6]
    assert values(sweep, "test/mean")[6] == pytest.approx(0.45)


def test_winners(config: dict[str, Any], events: list[AnyEvent]) -> None:
    changes = changes_of(config, [*events, WinnerChosen(time=1.8e9, arm="direct", trial=1, value=1.0)])
    assert changes["direct"].tags["supersnn.winner"] == "1"
    assert changes["direct/0"].tags["supersnn.winner"] == "no"
    assert changes["direct/1"].tags["supersnn.winner"] == "yes"


@pytest.mark.parametrize("folder", ["best/direct", "/sweep/best/direct", "/before/it/was/moved/sweep/best/direct"])
def test_export_belongs_to_the_verification_of_its_seed(
    config: dict[str, Any], events: list[AnyEvent], folder: str
) -> None:
    export = WinnerExported(time=1.8e9, arm="direct", folder=folder, seed=1001)
    changes = changes_of(config, [*events, export])
    (written,) = changes["direct/0/verify/1001"].exports
    assert written.folder == Path("/sweep/best/direct")
    assert written.test == pytest.approx(0.45)
    assert written.label is None
    assert changes["direct"].tags["supersnn.export"] == "sweep/best/direct"


def test_journals_of_one_name_never_share_a_run(config: dict[str, Any], events: list[AnyEvent]) -> None:
    def key(start: AnyEvent) -> str:
        tree = Tree("digits", config, FOLDER)
        tree.read(start)
        return tree.take()[0].run.key

    start = first(events, SweepStarted)
    assert key(start) == key(with_fields(start))
    assert key(start) != key(with_fields(start, driver="another"))


def test_key_of_a_journal_of_schema_1_is_the_digest_of_its_first_line(config: dict[str, Any]) -> None:
    fields = {"driver": "d1", "code": "0.1.0", "versions": {"torch": "2"}, "resumed": False}
    line = {"event": "sweep", "time": 1.7e9, **fields}
    start = parse(SweepStarted(**line).model_dump_json(include=set(line)))
    assert start is not None
    assert changes_of(config, [start])[""].run.key == f"digits@{digest(line)}"


def test_unknown_trial_is_an_error(config: dict[str, Any], events: list[AnyEvent]) -> None:
    tree = Tree("digits", config, FOLDER)
    for event in events[:20]:
        tree.read(event)
    key: dict[str, Any] = {"arm": "direct", "trial": 77}
    for unknown in (EpochReported(**key, epoch=1, metrics={}), TrialEnded(**key, end="finished")):
        with pytest.raises(UnknownRunError, match="direct #77: no event has started this trial"):
            tree.read(unknown)
    tree.read(TrialRanked(arm="direct", trial=0, seed=5))


def points_by_run(tree: Tree, points: dict[str, list[Point]]) -> None:
    for key, change in by_key(tree).items():
        points.setdefault(key, []).extend(change.points)


@pytest.mark.parametrize("size", [1, 7])
def test_points_do_not_depend_on_how_the_journal_is_cut(
    config: dict[str, Any], events: list[AnyEvent], size: int
) -> None:
    tree, points = Tree("digits", config, FOLDER), dict[str, list[Point]]()
    for start in range(0, len(events), size):
        for event in events[start : start + size]:
            tree.read(event)
        points_by_run(tree, points)
    assert points == {key: change.points for key, change in changes_of(config, events).items()}


def test_continuing_from_a_snapshot_gives_the_same_changes(
    config: dict[str, Any], events: list[AnyEvent], tmp_path: Path
) -> None:
    start, journal = first(events, SweepStarted), tmp_path / "journal.jsonl"
    journal.touch()
    for cut in range(1, len(events)):
        tree = Tree("digits", config, FOLDER)
        for event in events[:cut]:
            tree.skip(event)
        assert tree.take() == []
        snapshot.save(tmp_path / "saved", journal, 0, tree.state)
        loaded = snapshot.load(tmp_path / "saved", journal)
        assert loaded is not None
        restored, straight = Tree("digits", config, FOLDER), Tree("digits", config, FOLDER)
        restored.restore(start, loaded[0])
        for event in events[:cut]:
            straight.read(event)
        straight.take()
        for event in events[cut:]:
            restored.read(event)
            straight.read(event)
        assert restored.take() == straight.take()


def replicated(datasets: int, replicates: int) -> list[AnyEvent]:
    """A sweep of one arm: each search has a trial, a winner and a verification; values grow with the place."""
    labels = ["digits", "fashion"][:datasets] if datasets > 1 else []
    start = SweepStarted(time=1.0, driver="a", datasets=dict.fromkeys(labels, "d"), replicates=replicates)
    events: list[AnyEvent] = [start]
    places: list[tuple[str | None, int]] = [(d, r) for r in range(replicates) for d in (labels or (None,))]
    for place, (label, replicate) in enumerate(places):
        events += [DatasetSplit(time=2.0, dataset="images", split=f"s{place}", label=label, replicate=replicate)]
    for place, (label, replicate) in enumerate(places):
        where: dict[str, Any] = {"arm": "direct", "trial": 0, "dataset": label, "replicate": replicate}
        value, config = 0.5 + place / 10, {"dataset.name": "images", "student.architecture": "resnet8", "seed": place}
        events += [TrialStarted(time=10.0 + place, config=config, **where)]
        events += [EpochReported(time=20.0, epoch=1, metrics={"val/accuracy": value}, **where)]
        events += [TrialEnded(time=30.0, end="finished", value=value, **where)]
        events += [WinnerChosen(time=40.0, value=value, **where)]
        metrics: dict[str, float | None] = {"val/accuracy": value, "test/accuracy": value - 0.1}
        events += [WinnerVerified(time=50.0, seed=place, metrics=metrics, config=config, **where)]
    return events


@pytest.mark.parametrize(
    ("datasets", "replicates", "above"),
    [
        (1, 1, {"direct/0": ["direct", ""]}),
        (1, 2, {"direct/0": ["direct/replicate", "direct", ""], "direct~1/0": ["direct~1/replicate", "direct", ""]}),
        (2, 1, {"direct~fashion~0/0": ["direct~fashion~0", "~fashion", ""]}),
        (2, 2, {"direct~fashion~1/0": ["direct~fashion~1/replicate", "direct~fashion~0", "~fashion", ""]}),
    ],
)
def test_levels_of_which_there_is_one_are_left_out(
    config: dict[str, Any], datasets: int, replicates: int, above: dict[str, list[str]]
) -> None:
    changes = changes_of(config, replicated(datasets, replicates))
    for key, expected in above.items():
        found, run = list[str](), changes[key].run.parent
        while run is not None:
            found.append(run.key.partition("/")[2])
            run = run.parent
        assert found == expected
    levels = {change.run.tags["supersnn.level"] for change in changes.values()}
    optional = ({"dataset"} if datasets > 1 else set()) | ({"replicate"} if replicates > 1 else set())
    assert levels == {"sweep", "arm", "trial", "verification"} | optional


def test_runs_say_their_data_set_arm_and_replicate(config: dict[str, Any]) -> None:
    changes = changes_of(config, replicated(2, 2))
    for key in ("direct~fashion~1/0", "direct~fashion~1/0/verify/3"):
        tags = changes[key].run.tags
        assert tags["supersnn.dataset"] == "fashion"
        assert (tags["supersnn.arm"], tags["supersnn.replicate"], tags["supersnn.split"]) == ("direct", "1", "s3")
        assert changes[key].dataset == ("images", "s3")
    assert changes["direct~fashion~1/0"].run.name == "direct fashion replicate 1 #0 resnet8"
    assert "supersnn.split" not in changes["direct~fashion~0"].run.tags
    alone = changes_of(config, replicated(1, 1))["direct/0"].run.tags
    assert (alone["supersnn.dataset"], alone["supersnn.replicate"]) == ("images", "0")


def test_results_of_an_arm_are_those_of_its_replicates(config: dict[str, Any]) -> None:
    changes = changes_of(config, replicated(2, 2))
    arm, replicate = changes["direct~fashion~0"], changes["direct~fashion~1/replicate"]
    assert values(replicate, "test/mean") == {1: pytest.approx(0.7)}
    assert values(arm, "test/mean") == {1: pytest.approx(0.5), 2: pytest.approx(0.6)}
    assert values(arm, "test/sd") == {2: pytest.approx(statistics.stdev([0.5, 0.7]))}
    assert values(arm, "test/replicates") == {1: 1, 2: 2}
    assert values(arm, "trials/finished") == {1: 1, 2: 2}
    assert values(changes["~fashion"], "val/best") == {1: 0.6, 2: pytest.approx(0.8)}
    assert values(changes[""], "trials/finished") == {1: 1, 2: 2, 3: 3, 4: 4}
    assert not values(changes[""], "val/best")
    tags = changes["~fashion"].tags
    assert (tags["supersnn.best_arm"], tags["supersnn.split"]) == ("direct", "s1")


def test_runs_of_a_sweep_that_is_given_more_searches_move_below_their_new_parents(config: dict[str, Any]) -> None:
    tree, first = Tree("digits", config, FOLDER), replicated(1, 1)
    for event in first:
        tree.read(event)
    tree.take()
    tree.read(SweepStarted(time=99.0, driver="b", datasets={"digits": "d", "fashion": "f"}, replicates=2))
    changes = by_key(tree)
    replicate, images = changes["direct/replicate"], changes["~digits"]
    assert (values(replicate, "val/best"), values(images, "val/best")) == ({1: 0.5}, {1: 0.5})
    assert values(replicate, "test/mean") == values(images, "test/mean") == {1: pytest.approx(0.4)}
    assert (replicate.tags["supersnn.winner"], images.tags["supersnn.best_arm"]) == ("0", "direct")
    assert (images.tags["supersnn.split"], images.dataset) == ("s0", ("images", "s0"))
    parents = {key: change.run.parent for key, change in changes.items()}
    for key in ("direct/0", "direct/0/verify/0"):
        assert parents[key] is not None
        assert parents[key].key.endswith("/direct/replicate")  # type: ignore[union-attr]
    assert parents["direct"] is not None
    assert parents["direct"].key.endswith("/~digits")
    tree.read(SweepStarted(time=100.0, driver="c", datasets={"digits": "d", "fashion": "f"}, replicates=2))
    assert "direct/0" not in by_key(tree)


def test_an_export_of_one_of_several_data_sets_names_it(config: dict[str, Any]) -> None:
    export = WinnerExported(
        time=60.0, arm="direct", dataset="fashion", replicate=1, folder="best/fashion/direct", seed=3
    )
    (written,) = changes_of(config, [*replicated(2, 2), export])["direct~fashion~1/0/verify/3"].exports
    assert (written.folder, written.label) == (Path("/sweep/best/fashion/direct"), "fashion")
    assert [written.validation, written.test] == pytest.approx([0.8, 0.7])
