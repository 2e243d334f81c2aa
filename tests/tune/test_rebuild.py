"""Studies that are gone, behind, or another sweep's: rebuilt from the journal, or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from supersnn.config_model import parse, to_yaml
from supersnn.errors import UserError
from supersnn.records.events import DatasetSplit, SweepStarted
from tune.description.sweep import SweepConfig
from tune.notices import StudiesRebuilt
from tune.outcome.export import Exporter
from tune.search.messages import Report
from tune.search.rebuild import LOST
from tune.search.search import Search
from tune.search.studies import open_storage
from tune.search.tasks import recorded_splits
from tune.store import Store
from tune.sweep_driver import SweepDriver, open_sweep

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def described(name: str = "tiny", more: str = "neuron.threshold", **search: Any) -> SweepConfig:
    """Return a sweep; `more` is a key that is searched too."""
    plain = {
        "name": name,
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": 4},
        "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet14"]}},
        "space": {
            "neuron.threshold": "default",
            more: "default",
            "neuron.surrogate": "default",
            "neuron.width": {"log": [0.25, 4.0], "when": {"neuron.surrogate": ["atan", "sigmoid"]}},
        },
        "search": {"trials": 7, "sampler": "tpe", "scheduler": "asha", "min_epochs": 1, "startup": 3, **search},
    }
    return parse(SweepConfig, plain, "test")


def metrics(values: Any, epoch: int) -> dict[str, float]:
    """What a training with these values would report, the same whenever it is asked."""
    accuracy = 0.9 - abs(float(values["neuron.threshold"]) - 1) / 2 - 0.3 / epoch
    return {"val/accuracy": accuracy, "ops/synaptic": 1000 * (1 - accuracy), "spikes/rate": 0.5 - accuracy / 3}


def work(driver: SweepDriver, trials: int, left: int = 0, split: str = "s") -> list[tuple[str, Any]]:
    """Search for some trials of all arms together, the last `left` of which get two epochs and are interrupted."""
    record, sweep = driver.record, driver.sweep
    if record.state.data is None:
        record.write(DatasetSplit(split=split))
    driver.studies.claim(driver.sweep_id)
    driver.studies.warm_start(recorded_splits(driver.store))
    search = Search(driver.studies, record, driver.budget, driver.folder.path, driver.storage, driver.token)
    search.reconcile()
    done = []
    for count in range(trials):
        job = search.next_job()
        if job is None:
            break
        arm, number = job.key.split("/")
        values = driver.studies.values(arm, int(number))
        done.append((job.key, values))
        for epoch in range(job.reported + 1, 3 if count >= trials - left else sweep.trial_epochs() + 1):
            ended = "finished" if epoch == sweep.trial_epochs() else None
            ended = "failed:nan" if int(number) == 4 and epoch == 2 else ended
            if search.reported(job.key, Report(epoch, metrics(values, epoch), ended)):
                break
    return done


def driven(sweep: SweepConfig, store: Store, trials: int, left: int = 0, split: str = "s") -> list[tuple[str, Any]]:
    with open_sweep(sweep, store) as driver, driver.recording():
        return work(driver, trials, left, split)


def facts(trial: FrozenTrial) -> dict[str, Any]:
    """All that a study has of a trial but its times."""
    return {
        **{key: getattr(trial, key) for key in ("number", "state", "params", "distributions", "intermediate_values")},
        "values": trial.values,
        "user": trial.user_attrs,
        "constraints": trial.constraints,
        "rungs": {key: value for key, value in trial.system_attrs.items() if key.startswith("completed_rung")},
    }


def studies(store: Store) -> dict[str, Any]:
    """Everything in the database, by study."""
    storage = open_storage(store.optuna_url)
    names = optuna.get_all_study_names(storage)
    found = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
    return {name: (study.user_attrs, [facts(trial) for trial in study.trials]) for name, study in found.items()}


VARIANTS: list[dict[str, Any]] = [
    {"sampler": "qmc", "scheduler": "hyperband"},
    {"sampler": "nsga2", "objectives": ["accuracy", "synaptic_ops"], "constraints": {"spikes/rate": 0.4}},
    {"sampler": "nsga3", "objectives": ["accuracy", "synaptic_ops"]},
    {"sampler": "cmaes", "more": "optimizer.lr"},
    {"constraints": {"spikes/rate": 0.35}, "enqueue": [{"neuron.threshold": 1.1, "neuron.surrogate": "triangle"}]},
]


@pytest.mark.parametrize("search", VARIANTS)
def test_a_lost_database_is_rebuilt_and_the_search_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, search: dict[str, Any]
) -> None:
    sweep, store, other = described(**search), Store(tmp_path / "a"), Store(tmp_path / "b")
    driven(sweep, store, 9, left=1)
    shutil.copytree(store.path, other.path)
    before = studies(store)
    (store.path / "optuna.db").unlink()
    with open_sweep(sweep, store) as driver:
        ((notice),) = driver.notices
        assert isinstance(notice, StudiesRebuilt)
        assert notice == StudiesRebuilt(("direct", "homogeneous"), 9)
        assert studies(store) == before
    assert driven(sweep, store, 30) == driven(sweep, other, 30)
    assert studies(store) == studies(other)
    with open_sweep(sweep, store) as driver:
        assert driver.notices == ()


def test_a_grid_is_continued_without_repeating_a_point(tmp_path: Path) -> None:
    sweep, store = described(sampler="grid", scheduler="none", trials=8), Store(tmp_path)
    space = {"neuron.threshold": {"uniform": [0.5, 1.5]}, "neuron.reset": {"categorical": ["hard", "soft"]}}
    sweep = parse(SweepConfig, {**sweep.model_dump(mode="json"), "space": space}, "test")
    first = driven(sweep, store, 8)
    (store.path / "optuna.db").unlink()
    points = [str(values) for key, values in first + driven(sweep, store, 8) if key.startswith("direct")]
    assert len(points) == len(set(points)) == 8


def test_a_database_from_a_backup_is_brought_up_to_date(tmp_path: Path) -> None:
    sweep, store, backup = described(), Store(tmp_path / "store"), tmp_path / "optuna.db"
    driven(sweep, store, 7, left=1)
    shutil.copy(store.path / "optuna.db", backup)
    driven(sweep, store, 5)
    latest = studies(store)
    for left in store.path.glob("optuna.db*"):
        left.unlink()
    shutil.copy(backup, store.path / "optuna.db")
    with open_sweep(sweep, store) as driver:
        assert driver.notices
    assert studies(store) == latest


def test_a_trial_that_only_the_study_has_is_no_fault(tmp_path: Path) -> None:
    sweep, store = described(), Store(tmp_path)
    driven(sweep, store, 3)
    with open_sweep(sweep, store) as driver:
        asked = driver.studies.next()
        assert asked is not None
    with open_sweep(sweep, store) as driver:
        assert driver.notices == ()
        again = driver.studies.next()
        assert again is not None
        assert (again.key, again.values) == (asked.key, asked.values)


def test_a_database_of_several_studies_that_lost_one_gets_that_one_back(tmp_path: Path) -> None:
    sweep, store = described(objectives=["accuracy", "synaptic_ops"], sampler="nsga2"), Store(tmp_path)
    driven(sweep, store, 6)
    before = studies(store)
    for lost in ("tiny/direct", "tiny/homogeneous:rungs"):
        optuna.delete_study(study_name=lost, storage=store.optuna_url)
        with open_sweep(sweep, store) as driver:
            (notice,) = driver.notices
            assert isinstance(notice, StudiesRebuilt)
            assert notice.arms == (lost.split("/")[1].removesuffix(":rungs"),)
        assert studies(store) == before


def refused(sweep: SweepConfig, store: Store, words: str) -> None:
    """Assert that a start is refused in one line, and changes nothing."""
    before = contents(store), studies(store)
    with pytest.raises(UserError, match=words) as caught, open_sweep(sweep, store):
        pass
    assert "\n" not in str(caught.value)
    assert (contents(store), studies(store)) == before


def contents(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in store.sweeps.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_sweep_whose_folder_was_removed_is_refused_while_its_studies_are_there(tmp_path: Path) -> None:
    sweep, store = described(), Store(tmp_path)
    driven(sweep, store, 4)
    shutil.rmtree(store.sweep("tiny").path)
    refused(sweep, store, r"'tiny/direct' with 2 trials of another sweep.*has no trials .restore it.*: rename")
    for arm in sweep.arms:
        optuna.delete_study(study_name=f"tiny/{arm}", storage=store.optuna_url)
    assert len(driven(sweep, store, 4)) == 4
    assert [trial for _, trials in studies(store).values() for trial in trials if trial["number"] > 1] == []


def test_two_stores_with_one_database_do_not_share_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'shared.db'}")
    sweep, one, two = described(), Store(tmp_path / "one"), Store(tmp_path / "two")
    driven(sweep, one, 2)
    refused(sweep, two, "of another sweep")
    with monkeypatch.context() as patch:
        patch.delenv("SUPERSNN_OPTUNA_STORAGE")
        driven(sweep, two, 2)
    refused(sweep, two, "is the journal of another sweep 'tiny'")
    renamed = described("other")
    assert len(driven(renamed, two, 2)) == 2
    assert len(driven(sweep, one, 2)) == 2


def test_of_two_stores_that_start_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither has a trial when the other starts: the studies belong to the one that asks for the first."""
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'shared.db'}")
    sweep, one, two = described(), Store(tmp_path / "one"), Store(tmp_path / "two")
    with open_sweep(sweep, one) as first, open_sweep(sweep, two) as second, first.recording(), second.recording():
        first.studies.claim(first.sweep_id)
        with pytest.raises(UserError, match=r"study 'tiny/direct'.*another store with a sweep 'tiny' uses it"):
            second.studies.claim(second.sweep_id)
        assert first.studies.next() is not None
        assert first.studies.next() is not None
        with pytest.raises(UserError, match="another store with a sweep 'tiny' uses it"):
            second.studies.next()
    with open_sweep(sweep, one) as first:
        assert [counts.suggested for counts in first.studies.counts.values()] == [1, 1]


def test_other_values_for_a_trial_are_refused(tmp_path: Path) -> None:
    sweep, store = described(), Store(tmp_path)
    driven(sweep, store, 2)
    journal = store.sweep("tiny").journal
    text = journal.read_text(encoding="utf-8")
    first = next(line for line in text.splitlines() if line.startswith('{"event":"start"'))
    wrong = first.replace('"params":{"neuron.threshold":', '"params":{"neuron.threshold":1')
    assert wrong != first
    journal.write_text(text.replace(first, wrong), encoding="utf-8")
    refused(sweep, store, r"trial direct/0 has the values .* in .*journal\.jsonl and .* in study 'tiny/direct'")


def test_a_store_without_identities_continues_and_gets_one(tmp_path: Path) -> None:
    sweep, store = described(), Store(tmp_path)
    driven(sweep, store, 4)
    journal = store.sweep("tiny").journal
    lines = journal.read_text(encoding="utf-8").splitlines()
    older = SweepStarted(driver="older", code="0.1").model_dump_json(by_alias=True, exclude={"sweep_id", "config"})
    journal.write_text("\n".join([older, *lines[1:]]) + "\n", encoding="utf-8")
    for arm in sweep.arms:
        storage = optuna.storages.get_storage(store.optuna_url)
        study_id = storage.get_study_id_from_name(f"tiny/{arm}")
        storage.set_study_user_attr(study_id, "sweep_id", None)
    with open_sweep(sweep, store) as driver:
        identity = driver.sweep_id
        assert driver.notices == ()
    assert driven(sweep, store, 2)
    assert {attributes["sweep_id"] for attributes, _ in studies(store).values()} == {identity}
    with open_sweep(sweep, store) as driver:
        assert (driver.sweep_id, driver.record.state.sweep_id) == (identity, identity)


Damage = Callable[[str], bool]


def damaged(store: Store, damage: Damage) -> None:
    """Make every line of the journal that `damage` chooses unreadable."""
    journal = store.sweep("tiny").journal
    lines = journal.read_text(encoding="utf-8").splitlines()
    assert any(map(damage, lines))
    journal.write_text("".join(f"{'x' if damage(line) else ''}{line}\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize("kind", ["start", "end"])
def test_a_damaged_line_of_a_trial_is_made_up_from_the_studies(tmp_path: Path, kind: str) -> None:
    sweep, store = described(scheduler="none"), Store(tmp_path)
    driven(sweep, store, 14)
    before = studies(store)
    with open_sweep(sweep, store) as driver:
        best = {name: arm.best_value for name, arm in driver.record.state.searches.items()}
    damaged(store, lambda line: line.startswith(f'{{"event":"{kind}"') and '"arm":"direct","trial":3' in line)
    with open_sweep(sweep, store) as driver:
        assert len(driver.record.state.faults) == 1
        assert driver.work_left()
        with driver.recording():
            assert work(driver, 5) == []
        trial = driver.record.state.trial("direct", 3)
        assert trial is not None
        assert trial.end == "finished"
        assert trial.params == driver.studies.values("direct", 3)
        assert {name: arm.best_value for name, arm in driver.record.state.searches.items()} == best
    assert studies(store) == before


def test_a_rebuild_says_so_of_trials_that_the_journal_has_lost_in_part(tmp_path: Path) -> None:
    """Without its start a trial is counted as failed; without its last epoch it is judged by what its end says."""
    sweep, store = described(scheduler="none", sampler="random"), Store(tmp_path)
    driven(sweep, store, 14)
    before = studies(store)["tiny/direct"][1]
    damaged(store, lambda line: line.startswith('{"event":"start"') and '"arm":"direct","trial":3' in line)
    damaged(store, lambda line: '"arm":"direct","trial":2,"epoch":4' in line)
    (store.path / "optuna.db").unlink()
    driven(sweep, store, 30)
    after = studies(store)["tiny/direct"][1]
    assert len(after) == 7
    assert (after[3]["user"]["end"], after[3]["params"]) == (LOST, {})
    assert (after[2]["values"], after[2]["params"]) == (before[2]["values"], before[2]["params"])
    assert [after[n] for n in (0, 1, *range(4, 7))] == [before[n] for n in (0, 1, *range(4, 7))]


def test_a_warm_started_sweep_is_rebuilt_under_the_same_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    driven(described("earlier", scheduler="none"), store, 8)
    sweep = described(warm_start=["earlier"])
    first = driven(sweep, store, 4)
    assert [key for key, _ in first] == ["direct/4", "homogeneous/4", "direct/5", "homogeneous/5"]
    before = {name: found for name, found in studies(store).items() if name.startswith("tiny/")}
    for arm in sweep.arms:
        optuna.delete_study(study_name=f"tiny/{arm}", storage=store.optuna_url)
    with open_sweep(sweep, store) as driver:
        assert driver.notices
    assert {name: found for name, found in studies(store).items() if name.startswith("tiny/")} == before
    (store.path / "optuna.db").unlink()
    second = driven(sweep, store, 4)
    assert [key for key, _ in second] == ["direct/6", "homogeneous/6", "direct/7", "homogeneous/7"]


def test_a_warm_start_compares_the_images_that_the_records_have(tmp_path: Path) -> None:
    """The same configuration of a folder whose images have changed since is another task, after a rebuild too."""
    store = Store(tmp_path)
    driven(described("earlier", scheduler="none"), store, 8, split="before")
    sweep = described(warm_start=["earlier"])
    assert driven(sweep, store, 4, split="after")[0][0] == "direct/0"
    found = {name: one for name, one in studies(store).items() if name.startswith("tiny/")}
    assert all(len(attributes["start_designs"]["earlier"]) == 3 for attributes, _ in found.values())
    for arm in sweep.arms:
        optuna.delete_study(study_name=f"tiny/{arm}", storage=store.optuna_url)
    with open_sweep(sweep, store):
        pass
    assert {name: one for name, one in studies(store).items() if name.startswith("tiny/")} == found
    assert driven(described("same", warm_start=["earlier"]), store, 1, split="before")[0][0] == "direct/4"


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "journal.jsonl is missing: restore it"), (b"\0" * 50 + b"\n", "journal.jsonl is damaged: restore it")],
)
def test_an_export_says_what_the_journal_lacks(content: bytes | None, words: str, tmp_path: Path) -> None:
    sweep, store = described(), Store(tmp_path)
    folder = store.sweep("tiny")
    folder.path.mkdir(parents=True)
    folder.config.write_text(to_yaml(sweep), encoding="utf-8")
    if content is not None:
        folder.journal.write_bytes(content)
    with pytest.raises(UserError, match=rf"no arm has a verified winner yet; .*{words}"):
        Exporter(folder, store).best_arm()
