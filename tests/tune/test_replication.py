"""Data sets and replicates of a sweep: how they are described, what each search draws, and how a sweep is extended."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest

from supersnn.config_model import parse, to_yaml
from supersnn.data import training_data
from supersnn.digests import digest
from supersnn.errors import UserError
from supersnn.plain_yaml import parse_yaml
from supersnn.records.events import DatasetSplit, SweepStarted, TrialStarted
from tune.description.arms import resolve
from tune.description.fixed import fixed_digest
from tune.description.replication import SEED_STEP
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.execution.prepare import distinct_splits, needs, preparations
from tune.outcome.final_runs import RANKING_SEEDS
from tune.search.studies import Studies
from tune.store import Store
from tune.sweep_driver import open_sweep

PLAIN: dict[str, Any] = {
    "name": "one",
    "dataset": {"images": 300, "augment": {"views": 2}},
    "student": {"architecture": "resnet8"},
    "arms": {"direct": {}, "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}},
    "search": {"trials": 3, "sampler": "random"},
}


def sweep_of(**keys: Any) -> SweepConfig:
    plain = PLAIN if "datasets" in keys else {**PLAIN, "dataset": {**PLAIN["dataset"], "name": "digits"}}
    return parse(SweepConfig, {**plain, **keys}, "test")


@pytest.mark.parametrize(
    ("datasets", "names"),
    [
        (["digits", "fashion-mnist"], ["digits", "fashion-mnist"]),
        ({"digits": None, "fashion": "fashion-mnist"}, ["digits", "fashion-mnist"]),
        ({"few": {"name": "digits", "images": 200}, "fashion": {"name": "fashion-mnist"}}, ["digits", "fashion-mnist"]),
    ],
)
def test_data_sets_are_each_merged_over_the_common_keys(datasets: Any, names: list[str]) -> None:
    sweep = sweep_of(datasets=datasets)
    assert sweep.datasets is not None
    assert list(sweep.datasets) == list(datasets)
    assert [images.name for images in sweep.datasets.values()] == names
    assert {images.augment.views for images in sweep.datasets.values()} == {2}
    assert [images.images for images in sweep.datasets.values()] == [200 if "few" in datasets else 300, 300]
    assert sweep.dataset == next(iter(sweep.datasets.values()))
    assert parse(SweepConfig, parse_yaml(to_yaml(sweep)), "again") == sweep


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"datasets": ["digits", "digits"]}, "datasets: 'digits' is given twice"),
        ({"datasets": ["folder:/x"]}, r"cannot be a label.*datasets: \{mine: \{name: 'folder:/x'\}\}"),
        ({"datasets": {"a": {"imges": 3}}}, "datasets.a.imges: unknown key .did you mean 'datasets.a.images'"),
        ({"datasets": {"a": {"name": "digits"}, "b": {"name": "digits"}}}, "'a' and 'b' are the same images"),
        ({"datasets": {"direct": "digits"}}, "datasets: 'direct' is a name under arms as well"),
        ({"datasets": {"overall": "digits"}}, "datasets: 'overall' is reserved"),
        ({"datasets": {"a~b": "digits"}}, "datasets: 'a~b' is no valid name"),
        ({"vary": ["splt"]}, "vary.0: input should be 'search', 'teacher' or 'split', found 'splt'"),
        ({"replicates": 0}, "replicates: input should be greater than"),
        ({"replicates": 10**6}, "replicates: expected at most 1,000"),
        ({"vary": ["teacher"], "teacher": {"weights": "/w"}}, "vary: the teacher is /w, the same in all replicates"),
        ({"replicates": 3, "verify": {"first_seed": 2 * SEED_STEP}}, "verify.first_seed: .* of replicate 2"),
    ],
)
def test_mistakes_are_one_line(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        resolve(sweep_of(**keys))
    assert "\n" not in str(error.value)
    assert str(error.value).count("test: ") <= 1


def test_one_replicate_on_one_data_set_is_a_sweep_as_before() -> None:
    sweep = sweep_of()
    searches = planned(sweep)
    assert list(searches) == ["direct", "heterogeneous"]
    assert all(search.place["replicate"] == 0 and search.dataset is None for search in searches.values())
    assert all(search.sweep == sweep and search.seeds == (sweep.seed,) for search in searches.values())
    assert {name: search.arm for name, search in searches.items()} == resolve(sweep)
    more = sweep_of(datasets=["digits", "fashion-mnist"], replicates=5)
    assert fixed_digest(more) == fixed_digest(sweep)
    assert digest(sweep) == digest(SweepConfig(**{name: getattr(sweep, name) for name in sweep.model_fields_set}))


@pytest.mark.parametrize(("vary", "teachers", "splits"), [([], 1, 1), (["teacher"], 3, 1), (["split"], 3, 3)])
def test_what_varies_is_drawn_anew_and_the_rest_is_shared(
    vary: list[str], teachers: int, splits: int, tmp_path: Path
) -> None:
    searches = planned(sweep_of(replicates=3, vary=vary, datasets=["digits", "fashion-mnist"]))
    assert list(searches)[:4] == ["direct", "heterogeneous", "direct~fashion-mnist~0", "heterogeneous~fashion-mnist~0"]
    storage = Store(tmp_path).storage
    assert len(preparations(searches, storage)) == teachers * 2 * 2
    assert len(distinct_splits(searches.values())) == splits * 2
    needed = needs(searches, storage)
    assert all(len(needed[name]) == (0 if search.arm.name == "direct" else 2) for name, search in searches.items())
    places = [(item.dataset, item.replicate) for item in preparations(searches, storage)]
    assert set(places) == {(d, r) for d in ("digits", "fashion-mnist") for r in range(teachers)}
    by_replicate = {search.replicate: search for search in searches.values() if search.arm.name == "direct"}
    assert len({search.sweep.seed for search in by_replicate.values()}) == 3
    again = planned(sweep_of(replicates=3, vary=vary, datasets=["digits", "fashion-mnist"]))
    assert again == searches


def test_a_replicates_split_has_the_same_images_and_another_validation_part() -> None:
    searches = planned(sweep_of(replicates=2, vary=["split"]))
    first, second = (training_data(searches[name].sweep.dataset) for name in ("direct", "direct~1"))
    pools = [{*data.train.index.tolist(), *data.validation.index.tolist()} for data in (first, second)]
    assert pools[0] == pools[1]
    assert first.validation.index.tolist() != second.validation.index.tolist()
    assert first.fingerprint != second.fingerprint


def test_no_seed_serves_two_replicates_however_many_there_are() -> None:
    sweep = sweep_of(replicates=3, verify={"seeds": 1_000_000, "rank_seeds": 1_000_000})
    ranges = []
    for search in planned(sweep).values():
        if search.arm.name == "direct":
            first = search.sweep.verify.first_seed
            ranges += [range(search.seeds[0], search.seeds[-1] + 1), range(first, first + 1_000_000)]
            ranges += [range(first + RANKING_SEEDS, first + RANKING_SEEDS + 1_000_000)]
    ordered = sorted(ranges, key=lambda one: one.start)
    assert all(before.stop <= after.start for before, after in pairwise(ordered))


def test_searches_of_all_cells_progress_together() -> None:
    sweep = sweep_of(replicates=2, datasets=["digits", "fashion-mnist"])
    live = Studies(sweep, planned(sweep), optuna.storages.InMemoryStorage())
    given: Counter[str] = Counter()
    while (assignment := live.next()) is not None:
        given[assignment.search.name] += 1
        assert max(given.values()) - min(given[name] for name in live.searches) <= 1
        live.finish(assignment.key, "failed:x")
    assert set(given.values()) == {3}
    assert len(given) == 8


def test_a_search_that_waits_for_its_teacher_holds_no_other_up() -> None:
    sweep = sweep_of(replicates=2)
    live = Studies(sweep, planned(sweep), optuna.storages.InMemoryStorage())
    waiting = {"heterogeneous"}
    asked: list[str] = []
    for _ in range(4):
        assignment = live.next(ready=lambda search: search.name not in waiting)
        assert assignment is not None
        asked.append(assignment.search.name)
    assert asked == ["direct", "direct~1", "heterogeneous~1", "direct"]
    waiting.clear()
    late = live.next()
    assert late is not None
    assert late.search.name == "heterogeneous"


def test_replicates_suggest_other_trials_and_replicate_0_those_of_a_sweep_without() -> None:
    def first_values(sweep: SweepConfig) -> dict[str, Any]:
        space = {"optimizer.lr": {"log": [0.01, 0.3]}}
        sweep = parse(SweepConfig, {**sweep.model_dump(mode="json"), "space": space}, "test")
        live = Studies(sweep, planned(sweep), optuna.storages.InMemoryStorage())
        found: dict[str, Any] = {}
        while len(found) < len(live.searches) and (assignment := live.next()) is not None:
            found.setdefault(assignment.search.name, assignment.values)
        return found

    alone, several = first_values(sweep_of()), first_values(sweep_of(replicates=3))
    assert {name: several[name] for name in alone} == alone
    assert len({values["optimizer.lr"] for name, values in several.items() if name.startswith("direct")}) == 3


def begun(sweep: SweepConfig, store: Store) -> None:
    """Start a sweep and a trial of its last search without a teacher."""
    with open_sweep(sweep, store) as driver, driver.recording():
        driver.record.write(DatasetSplit(split="s"))
        last = [search for search in driver.searches.values() if search.arm.name == "direct"][-1]
        driver.record.write(TrialStarted(**last.place, trial=0, config={}))


def test_data_sets_and_replicates_can_be_added(tmp_path: Path) -> None:
    store = Store(tmp_path)
    begun(sweep_of(), store)
    begun(sweep_of(replicates=2), store)
    begun(sweep_of(datasets={"digits": None}, replicates=2), store)
    begun(sweep_of(datasets=["digits", "fashion-mnist"], replicates=2), store)
    with open_sweep(sweep_of(datasets=["digits", "fashion-mnist"], replicates=3), store) as driver:
        state = driver.record.state
        assert list(state.searches) == ["direct", "direct~1", "direct~fashion-mnist~1"]
        assert [record.dataset for record in state.searches.values()] == ["digits", "digits", "fashion-mnist"]
        assert (list(state.datasets), state.replicates) == (["digits", "fashion-mnist"], 2)
        assert driver.work_left()
        starts = [event for event in driver.record.events(("sweep",)) if isinstance(event, SweepStarted)]
        assert [list(event.datasets) for event in starts] == [[], [], ["digits"], ["digits", "fashion-mnist"]]


TWO: dict[str, Any] = {"datasets": ["digits", "fashion-mnist"], "replicates": 2, "vary": ["teacher"]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"datasets": ["digits"]}, "datasets: digits, fashion-mnist before, digits now; they can be added at the end"),
        (
            {"datasets": ["fashion-mnist", "digits"]},
            "datasets: digits, fashion-mnist before, fashion-mnist, digits now",
        ),
        ({"datasets": {"digits": None, "fashion-mnist": {"images": 99}}}, "datasets.fashion-mnist: it has other keys"),
        ({"replicates": 1}, "replicates: 2 before, 1 now; they can be added, not removed"),
        ({"vary": ["split"]}, r"vary: \['search', 'teacher'\] before, \['search', 'split'\] now"),
        ({"seed": 7}, "seed: 0 before, 7 now"),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_what_a_sweep_has_begun_with_stays(changed: dict[str, Any], words: str, lost: bool, tmp_path: Path) -> None:
    store = Store(tmp_path)
    begun(sweep_of(**TWO), store)
    if lost:
        store.sweep("one").config.unlink()
        words = "already exists with a different configuration"
    with pytest.raises(UserError, match=words) as error, open_sweep(sweep_of(**{**TWO, **changed}), store):
        pass
    assert "\n" not in str(error.value)
