import statistics
from pathlib import Path

import pytest

from tune.tracking.tree import Tree

FAMILIES = {"resnet8": "resnet", "resnet14": "resnet", "vgg8": "vgg"}


def grow(config, events, folder=Path("/nowhere")):
    tree = Tree("digits", config, folder, FAMILIES.__getitem__)
    for event in events:
        tree.read(event)
    return {change.run.key.partition("/")[2]: change for change in tree.take()}


def values(change, metric):
    return {point.step: point.value for point in change.points if point.name == metric}


def test_levels_and_parents(config, events):
    changes = grow(config, events)
    levels = {key: change.run.tags["supersnn.level"] for key, change in changes.items()}
    assert levels[""] == "sweep"
    assert levels["direct"] == "arm"
    assert levels["direct/1"] == "trial"
    assert levels["direct/0/verify/1001"] == "verification"
    parents = {key: change.run.parent for key, change in changes.items()}
    assert parents[""] is None
    assert parents["direct"] is changes[""].run
    assert parents["direct/1"] is parents["direct/0/verify/1001"] is changes["direct"].run


def test_names_that_read(config, events):
    changes = grow(config, events)
    assert changes["heterogeneous/1"].run.name == "heterogeneous #1 vgg8→resnet8"
    assert changes["direct/0"].run.name == "direct #0 resnet8"
    assert changes["heterogeneous/0/verify/1001"].run.name == "heterogeneous verify seed 1001"


@pytest.mark.parametrize(
    ("arm", "pairing", "family"),
    [("direct", "none", None), ("homogeneous", "homogeneous", "resnet"), ("heterogeneous", "heterogeneous", "vgg")],
)
def test_pairing_comes_from_the_families(config, events, arm, pairing, family):
    changes = grow(config, events)
    for tags in (changes[f"{arm}/0"].run.tags, changes[f"{arm}/0/verify/1000"].run.tags, changes[arm].tags):
        assert tags["supersnn.pairing"] == pairing
        assert tags.get("supersnn.teacher_family") == family
        assert tags["supersnn.student_family"] == "resnet"


def test_an_arm_shows_every_teacher_of_its_trials(config, events):
    start = next(e for e in events if e["event"] == "start" and e["arm"] == "heterogeneous")
    other = {**start, "trial": 9, "config": {**start["config"], "teacher.name": "resnet14"}}
    arm = grow(config, [*events, other])["heterogeneous"]
    assert arm.tags["supersnn.teacher"] == "resnet14, vgg8"
    assert arm.tags["supersnn.pairing"] == "heterogeneous, homogeneous"


def test_a_teacher_is_known_by_what_it_is(config, events):
    tags = grow(config, events)["heterogeneous/0"].run.tags
    assert tags["supersnn.teacher_digest"] == "beef"
    assert tags["supersnn.teacher_accuracy"] == "0.9"
    assert tags["supersnn.teacher_parameters"] == "9"


def test_params_are_the_configuration(config, events):
    start = next(e for e in events if e["event"] == "start" and e["arm"] == "heterogeneous")
    params = grow(config, events)["heterogeneous/0"].params
    assert params.keys() == start["config"].keys()
    assert params["teacher.name"] == "vgg8"
    assert params["optimizer.lr"] == "0.1"
    assert params["optimizer.clip"] == "null"


def test_a_trial_that_ended_ends_once(config, events):
    again = [{**e, "time": e["time"] + 1000} for e in events if e["event"] == "end"]
    assert grow(config, [*events, *again]) == grow(config, events)


def test_the_sweep_has_no_param_that_a_continued_sweep_may_change(config, events):
    params = grow(config, events)[""].params
    assert "search.trials" not in params
    assert params["student.architecture"] == "resnet8"


def test_epochs_are_steps_and_the_first_of_two_counts(config, events):
    again = [{**e, "time": e["time"] + 0.5} for e in events if e["event"] == "epoch"]
    changes = grow(config, [*events[:-1], *again, events[-1]])
    points = [p for p in changes["homogeneous/0"].points if p.name == "val/accuracy"]
    assert [(p.step, p.value) for p in points] == [(1, 0.15), (2, 0.2), (3, 0.25)]
    assert {p.time for p in points} <= {e["time"] for e in events}


@pytest.mark.parametrize(
    ("end", "status"), [("finished", "FINISHED"), ("stopped", "FINISHED"), ("failed:NaN loss", "FAILED")]
)
def test_how_a_trial_ended(config, events, end, status):
    ended = [{**e, "end": end} if e["event"] == "end" else e for e in events]
    change = grow(config, ended)["direct/0"]
    assert change.status == status
    assert change.tags["supersnn.end"] == end


def test_a_failed_trial_leads_to_its_traceback(config, events, tmp_path):
    (tmp_path / "trials/direct/0").mkdir(parents=True)
    (tmp_path / "trials/direct/0/traceback.txt").write_text("ValueError")
    failed = [{**e, "end": "failed:ValueError"} if e["event"] == "end" else e for e in events]
    changes = grow(config, failed, tmp_path)
    assert changes["direct/0"].tags["supersnn.traceback"] == str(tmp_path / "trials/direct/0/traceback.txt")
    assert "supersnn.traceback" not in changes["direct/1"].tags


@pytest.mark.parametrize(("end", "status"), [("done", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED")])
def test_how_a_sweep_closed(config, events, end, status):
    changes = grow(config, [*events[:-1], {**events[-1], "end": end}])
    assert changes[""].status == changes["direct"].status == status
    assert changes["direct/0"].status == "FINISHED"


def test_interrupted_trials_are_killed_and_continued(config, events):
    first_end = next(i for i, e in enumerate(events) if e["event"] == "end")
    close = {"event": "close", "time": 1.8e9, "driver": "d1", "end": "interrupted"}
    cut = [*events[:first_end], close]
    assert grow(config, cut)["direct/0"].status == "KILLED"
    sweep, start = {**events[0], "resumed": True}, next(e for e in events if e["event"] == "start")
    continued = grow(config, [*cut, sweep, start])
    assert continued["direct/0"].status == continued["direct"].status == continued[""].status == "RUNNING"
    assert continued["direct/0"].ended is None


def test_counts_and_best_of_an_arm(config, events):
    arm = grow(config, events)["homogeneous"]
    assert values(arm, "trials/started")[2] == 2
    assert values(arm, "trials/finished")[2] == 1
    assert values(arm, "trials/stopped")[2] == 1
    assert values(arm, "trials/failed")[2] == 0
    assert values(arm, "val/best")[2] == 0.25  # trial 0 after 3 epochs; trial 1 was stopped


def test_counts_and_best_of_the_sweep(config, events):
    sweep = grow(config, events)[""]
    assert values(sweep, "trials/started")[6] == 6
    assert values(sweep, "trials/finished")[6] == 3
    assert values(sweep, "val/best")[6] == pytest.approx(0.35)


def test_verified_results_of_an_arm(config, make_events):
    arm = grow(config, make_events(seeds=3))["direct"]
    tests = [0.4, 0.5, 0.6]
    assert values(arm, "test/mean")[3] == pytest.approx(statistics.fmean(tests))
    assert values(arm, "test/sd") == {2: pytest.approx(statistics.stdev(tests[:2])), 3: pytest.approx(0.1)}
    assert values(arm, "test/seeds")[3] == 3
    assert values(arm, "spikes/rate")[3] == 0.25


def test_a_verification_has_its_spike_rates_by_layer(config, events):
    first = next(event for event in events if event["event"] == "verified")
    told = grow(config, [*events[: events.index(first)], {**first, "rates": {"activation": 0.4, "body.3": 0.1}}])
    (change,) = (change for key, change in told.items() if "/verify/" in key)
    points = {point.name: point.value for point in change.points}
    assert (points["spikes/rate/activation"], points["spikes/rate/body.3"]) == (0.4, 0.1)
    assert points["spikes/rate"] == first["metrics"]["spikes/rate"]


def test_a_verification_says_when_it_opened_the_test_images(config, events):
    first = next(event for event in events if event["event"] == "verified")
    opened = grow(config, [*events[: events.index(first)], {**first, "opened": 1.8e9}])
    tags = [change.run.tags for key, change in opened.items() if "/verify/" in key]
    assert [tag["supersnn.test_opened"] for tag in tags] == ["2027-01-15T08:00:00+00:00"]


def test_the_sweep_shows_the_arm_whose_fresh_seeds_validate_best(config, events):
    for event in events:
        if event["event"] == "verified" and event["arm"] == "direct":
            event["metrics"]["test/accuracy"] = 0.99
    sweep = grow(config, events)[""]
    assert sweep.tags["supersnn.best_arm"] == "heterogeneous"
    assert list(values(sweep, "test/mean")) == [1, 2, 3, 4, 5, 6]
    assert values(sweep, "test/mean")[6] == pytest.approx(0.45)


def test_winners(config, events):
    changes = grow(config, [*events, {"event": "winner", "time": 1.8e9, "arm": "direct", "trial": 1, "value": 1.0}])
    assert changes["direct"].tags["supersnn.winner"] == "1"
    assert changes["direct/0"].tags["supersnn.winner"] == "no"
    assert changes["direct/1"].tags["supersnn.winner"] == "yes"


def test_an_export_belongs_to_the_verification_of_its_seed(config, events):
    export = {"event": "export", "time": 1.8e9, "arm": "direct", "folder": "best/direct", "seed": 1001}
    changes = grow(config, [*events, export], Path("/sweep"))
    (written,) = changes["direct/0/verify/1001"].exports
    assert written.folder == Path("/sweep/best/direct")
    assert written.score == pytest.approx(0.45)


def test_two_journals_of_one_name_never_share_a_run(config, events):
    def key(first):
        tree = Tree("digits", config, Path(), FAMILIES.__getitem__)
        tree.read(first)
        return tree.take()[0].run.key

    assert key(events[0]) == key(dict(events[0]))
    assert key(events[0]) != key({**events[0], "driver": "another"})


def test_whatever_way_it_is_cut_the_same_is_said(config, events):
    whole = grow(config, events)
    for size in (1, 7):
        tree = Tree("digits", config, Path("/nowhere"), FAMILIES.__getitem__)
        points = {key: [] for key in whole}
        for start in range(0, len(events), size):
            for event in events[start : start + size]:
                tree.read(event)
            for change in tree.take():
                points[change.run.key.partition("/")[2]] += change.points
        assert points == {key: change.points for key, change in whole.items()}
