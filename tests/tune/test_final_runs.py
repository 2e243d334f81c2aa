"""Who wins an arm, with which seeds, and what the final trainings see."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from supersnn.config import TrainConfig
from supersnn.config_model import with_values
from supersnn.digests import digest
from supersnn.errors import ExternalError, UserError
from supersnn.files import DamagedFile, sha256
from supersnn.measurement import measure
from supersnn.nested import flatten
from supersnn.networks.build import build
from supersnn.records.events import TrialRanked, WinnerVerified
from supersnn.records.state import SweepState
from tune.description.arms import resolve
from tune.description.searches import planned
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.execution.failures import FailedForGood, Failure
from tune.execution.local import LocalExecutor
from tune.execution.trial import StaleDriverError
from tune.outcome import final_training
from tune.outcome.final_result import FinalResult
from tune.outcome.final_runs import RANKED, RANKING_SEEDS, VERIFIED, FinalRuns
from tune.outcome.final_training import RESULT, WEIGHTS, FinalRun, stored_result, train_final
from tune.storage import storage_at
from tune.store import Store

SWEEP: dict[str, Any] = {
    "name": "s",
    "dataset": {"name": "digits", "images": 300},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 1},
    "arms": {"direct": {}, "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}},
}


class Studies:
    """The search's results: by arm accuracy and number, the best first."""

    def __init__(self, sweep: SweepConfig, rankings: Mapping[str, list[tuple[float, int]]]) -> None:
        self.searches, self._rankings = planned(sweep), rankings

    def ranking(self, arm: str) -> list[tuple[float, int]]:
        return self._rankings.get(arm, [])

    def config(self, arm: str, number: int) -> TrainConfig:
        taught: Values = {"teacher.name": "vgg8", "loss.relation.weight": 10.0}
        values = taught if arm == "heterogeneous" else {}
        return self.searches[arm].arm.config({"optimizer.lr": 0.01 * (number + 1), **values})


Made = Callable[..., FinalRuns]
ONE = {"direct": [(0.8, 4)]}
RANKINGS = {"direct": [(0.8, 4), (0.7, 1), (0.6, 0)], "heterogeneous": [(0.9, 2)]}


@pytest.fixture
def finals(tmp_path: Path) -> Made:
    def make(
        rankings: Mapping[str, list[tuple[float, int]]] = RANKINGS, state: SweepState | None = None, **plan: Any
    ) -> FinalRuns:
        sweep = SweepConfig.model_validate({**SWEEP, "verify": {"seeds": 3, **plan}})
        store, studies = Store(tmp_path), Studies(sweep, rankings)
        return FinalRuns(sweep, studies, store.sweep("s"), store, "token", state)  # type: ignore[arg-type]

    return make


def end(item: FinalRun, **result: Any) -> None:
    folder = Path(item.job.store, item.job.folder)
    folder.mkdir(parents=True)
    columns = {"seed": item.seed, "config": digest(item.config), "images": 45, "seconds": 1.0, "ended": "finished"}
    (folder / RESULT).write_text(json.dumps({**columns, **result}))  # metrics as the first version had them


def test_the_same_seeds_serve_every_arm_one_after_another(finals: Made) -> None:
    items = finals().verifications()
    assert [(item.search, item.trial, item.seed) for item in items] == [
        (arm, trial, seed) for seed in (1000, 1001, 1002) for arm, trial in (("direct", 4), ("heterogeneous", 2))
    ]
    for item in items:
        assert item.job.config["seed"] == item.seed
        assert item.job.seeds == (item.seed,)
        assert item.ledger is not None
        assert Path(item.job.folder).relative_to(item.job.sweep).parts[0] == VERIFIED


def test_one_candidate_is_not_ranked(finals: Made) -> None:
    assert finals().rankings() == []
    assert {item.search for item in finals(top=5).rankings()} == {"direct"}


def test_several_candidates_are_ranked_by_seeds_that_do_nothing_else_and_no_test(finals: Made) -> None:
    one = finals(top=2, rank_seeds=2)
    rankings = one.rankings()
    assert {(item.trial, item.seed) for item in rankings} == {
        (trial, 1000 + RANKING_SEEDS + k) for trial in (4, 1) for k in (0, 1)
    }
    assert all(item.ledger is None for item in rankings)
    assert {Path(item.job.folder).relative_to(item.job.sweep).parts[0] for item in rankings} == {RANKED}
    assert one.left()
    for item in rankings:
        end(item, val={4: 0.5, 1: 0.6}[item.trial] + 0.001 * (item.seed % 2))
    winners = one.winners()
    assert (winners["direct"].trial, winners["direct"].search_value) == (1, 0.7)
    assert winners["direct"].ranked == pytest.approx(0.6005)
    assert (winners["heterogeneous"].trial, winners["heterogeneous"].ranked) == (2, None)
    assert {(item.search, item.trial) for item in one.verifications()} == {("direct", 1), ("heterogeneous", 2)}


def test_work_is_left_until_the_last_result_is_there(finals: Made) -> None:
    one = finals()
    for item in one.verifications():
        assert one.left()
        end(item, val=0.5)
    assert not one.left()
    assert finals(seeds=4).left()
    assert not finals({}).left()


def verified(item: FinalRun, **changed: Any) -> SweepState:
    """The state of a sweep whose journal has the verification of a run."""
    state, metrics = SweepState(), {"val/accuracy": 0.5, "test/accuracy": 0.4}
    facts = {"config": flatten(item.config), "metrics": metrics, "seconds": 1.0} | changed
    state.apply(WinnerVerified(arm=item.search, trial=item.trial, seed=item.seed, **facts))
    return state


@pytest.mark.parametrize("values", [{"optimizer.lr": 0.3}, {"seed": 1001}])
def test_a_result_of_another_training_is_never_taken(finals: Made, values: dict[str, Any]) -> None:
    one = finals(ONE, seeds=1)
    (item,) = one.verifications()
    end(item, val=0.5, test=0.4, config=digest(with_values(item.config, values)))
    with pytest.raises(DamagedFile, match=r"direct/4/1000/result\.json: the result of another training.*move the file"):
        one.left()
    with pytest.raises(DamagedFile, match="another training"):
        train_final(item)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"metrics": {"val/accuracy": 0.5, "test/accuracy": 0.3}},
            r"test/accuracy is 0\.4 here and 0\.3 in the journal",
        ),
        ({"seconds": 2.0}, r"seconds is 1\.0 here and 2\.0 in the journal"),
        ({"config": {"optimizer.lr": 0.3}}, r"the journal has it with optimizer\.lr: 0\.3"),
    ],
)
def test_a_result_is_the_one_that_the_journal_has(finals: Made, changed: dict[str, Any], words: str) -> None:
    (item,) = finals(ONE, seeds=1).verifications()
    end(item, val=0.5, test=0.4)
    same, other = finals(ONE, verified(item), seeds=1), finals(ONE, verified(item, **changed), seeds=1)
    assert not same.left()
    with pytest.raises(DamagedFile, match=words):
        other.left()


def test_a_result_that_names_no_training_is_taken_as_the_journal_has_it(finals: Made) -> None:
    """Those of earlier versions: refused where they are tested and the journal has no event, else trained again."""
    (item,) = finals(ONE, seeds=1).verifications()
    end(item, val=0.5, test=0.4, config=None)
    assert not finals(ONE, verified(item), seeds=1).left()
    with pytest.raises(DamagedFile, match=r"optimizer\.lr"):
        finals(ONE, verified(item, config={"optimizer.lr": 0.3}), seeds=1).left()
    with pytest.raises(DamagedFile, match="does not say which training it is of"):
        finals(ONE, seeds=1).left()
    two = {"direct": [(0.8, 4), (0.7, 1)]}
    ranking = finals(two, top=2, rank_seeds=1).rankings()[0]
    end(ranking, val=0.5, config=None)
    storage = Store(Path(ranking.job.store)).storage
    assert stored_result(ranking, storage) is None
    taken = stored_result(ranking, storage, TrialRanked(arm="direct", trial=4, seed=ranking.seed, value=0.5))
    assert taken is not None
    assert taken.val == 0.5


@pytest.mark.parametrize("content", ["", "{", "5", "[]", "{}", '{"seed": "x"}', "\xff"])
def test_a_damaged_result_is_one_line(finals: Made, content: str) -> None:
    one = finals(ONE, seeds=1)
    (item,) = one.verifications()
    end(item, val=0.5)
    Path(item.job.store, item.job.folder, RESULT).write_text(content, encoding="latin-1")
    with pytest.raises(DamagedFile, match=r"result\.json: damaged: ") as caught:
        one.left()
    assert "\n" not in str(caught.value)


def test_a_lost_result_file_is_written_again_from_the_journal(finals: Made, tmp_path: Path) -> None:
    (item,) = finals(ONE, seeds=1).verifications()
    item = replace(item, job=replace(item.job, config={**item.job.config, "export": {"int8": True}}))
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "sweeps" / "s" / "owner").write_text("token")
    result = train_final(item)
    assert result.int8 is not None
    assert result.int8["images"] == result.images  # the test images, which are opened once
    assert result.metrics["int8/accuracy"] == result.int8["int8"]["accuracy"]
    assert result.int8["float"]["accuracy"] == pytest.approx(result.test)
    assert len((tmp_path / "sweeps" / "s" / "test-ledger.jsonl").read_text().splitlines()) == 1
    facts = result.model_dump(include={"metrics", "rates", "seconds", "opened", "ended", "anytime", "int8", "right"})
    one = finals(ONE, verified(item, **facts), seeds=1)
    (tmp_path / item.job.folder / RESULT).unlink()
    assert one.left()
    assert list(one.run([item], Idle())) == [(item, result)]  # type: ignore[arg-type]


class Idle:
    """An executor that nothing is left for."""

    def tasks(self, _function: object, items: list[FinalRun]) -> list[tuple[FinalRun, FinalResult]]:
        assert items == []
        return []


def test_final_trainings_may_see_the_validation_images_with_a_teacher_of_their_own(finals: Made) -> None:
    assert finals().refitted() == {}
    one = finals(train_on="train+validation")
    assert {item.job.config["dataset"]["train_on"] for item in one.verifications()} == {"train+validation"}
    refitted = one.refitted()
    assert refitted.keys() == {"heterogeneous"}
    assert refitted["heterogeneous"].arm.teachers == ("vgg8",)
    config = refitted["heterogeneous"].arm.config({"loss.relation.weight": 1.0, "teacher.name": "vgg8"})
    assert config.dataset.train_on == "train+validation"


def test_a_search_never_sees_them() -> None:
    with pytest.raises(ValueError, match=r"verify\.train_on"):
        SweepConfig.model_validate({**SWEEP, "dataset": {"name": "digits", "train_on": "train+validation"}})
    arm = {"set": {"dataset.train_on": "train+validation"}}
    with pytest.raises(UserError, match=r"dataset\.train_on.*same images"):
        resolve(SweepConfig.model_validate({**SWEEP, "arms": {"direct": arm}}))


def test_a_ranking_opens_no_test_and_a_verification_does_once(finals: Made, tmp_path: Path) -> None:
    one = finals({"direct": [(0.8, 0), (0.7, 1)]}, top=2, rank_seeds=1, seeds=1)
    ledger = tmp_path / "sweeps" / "s" / "test-ledger.jsonl"
    ledger.parent.mkdir(parents=True)
    (ledger.parent / "owner").write_text("token")
    results = [train_final(item) for item in one.rankings()]
    assert not ledger.exists()
    assert all(result.test is None and result.opened is None and result.images == 45 for result in results)
    (item,) = one.verifications()
    result = train_final(item)
    assert train_final(item) == result
    (note,) = (json.loads(line) for line in ledger.read_text().splitlines())
    assert note["purpose"] == f"verify direct/{item.trial}/1000"
    assert note["time"] == result.opened
    assert note["count"] == result.images
    assert result.test is not None
    assert 0 <= result.test <= 1
    assert note["weights"] == sha256(tmp_path / item.job.folder / WEIGHTS)


@pytest.mark.filterwarnings("ignore")
def test_a_plain_module_that_is_called_at_every_step_has_a_final_run(tmp_path: Path) -> None:
    pytest.importorskip("snntorch")
    example = Path(__file__).resolve().parents[2] / "examples" / "adapted"
    student = {"architecture": "adapted.of_snntorch:convolutional", "time_steps": 4}
    given = {**SWEEP, "plugins": [str(example)], "student": student, "arms": {"direct": {}}, "verify": {"seeds": 1}}
    sweep, store = SweepConfig.model_validate(given), Store(tmp_path)
    one = FinalRuns(sweep, Studies(sweep, ONE), store.sweep("s"), store, "token", None)  # type: ignore[arg-type]
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "sweeps" / "s" / "owner").write_text("token")
    (item,) = one.verifications()
    result = train_final(item)
    assert [row["at"] for row in result.anytime if row["rule"] == "steps"] == [1, 2, 3, 4]
    assert result.anytime[3]["energy_nj"] == pytest.approx(result.metrics["energy/nj"])
    assert result.anytime[0]["energy_nj"] < result.anytime[3]["energy_nj"]
    assert result.metrics["spikes/activation_sparsity"] is not None


def test_a_worker_lost_while_it_tests_leaves_an_opening_that_the_next_one_goes_on_with(
    finals: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "sweeps" / "s" / "test-ledger.jsonl"
    ledger.parent.mkdir(parents=True)
    (ledger.parent / "owner").write_text("token")
    (item,) = finals({"direct": [(0.8, 0)]}, seeds=1).verifications()
    with monkeypatch.context() as patch:
        patch.setattr(final_training, "measure", lost)
        with pytest.raises(KeyboardInterrupt):
            train_final(item)
    opened = ledger.read_text()
    assert len(opened.splitlines()) == 1
    result = train_final(item)
    assert result.test is not None
    assert 0 <= result.test <= 1
    assert ledger.read_text() == opened
    assert result.opened == json.loads(opened)["time"]


def test_a_worker_on_another_node_goes_on_with_the_lost_ones_opening(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = SweepConfig.model_validate({**SWEEP, "verify": {"seeds": 1}})
    store = Store(tmp_path / "driver", s3)
    folder = store.sweep("s")
    one = FinalRuns(sweep, Studies(sweep, {"direct": [(0.8, 0)]}), folder, store, "token")  # type: ignore[arg-type]
    store.storage.write_text(f"{store.storage.name(folder.path)}/owner", "token")
    (item,) = one.verifications()

    def on(node: str) -> list[tuple[FinalRun, Any]]:
        monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / node))
        storage_at.cache_clear()  # a process of its own has none
        return list(one.run([item], LocalExecutor()))

    with monkeypatch.context() as patch:
        patch.setattr(final_training, "measure", lost)
        with pytest.raises(KeyboardInterrupt):
            on("first")
    (opened,) = tmp_path.glob("first/**/test-ledger.jsonl")
    ((_, result),) = on("second")
    assert folder.ledger.read_text() == opened.read_text()
    assert result.opened == json.loads(opened.read_text())["time"]
    assert result.test is not None
    assert 0 <= result.test <= 1


def test_what_is_tested_is_kept(finals: Made) -> None:
    (item,) = finals({"direct": [(0.8, 0)]}, seeds=1).verifications()
    with pytest.raises(ValueError, match="kept"):
        replace(item, keep=False)


def test_a_worker_of_another_drivers_sweep_opens_nothing(
    finals: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path / "sweeps" / "s" / "owner"
    owner.parent.mkdir(parents=True)
    owner.write_text("token")
    (item,) = finals({"direct": [(0.8, 0)]}, seeds=1).verifications()
    monkeypatch.setattr(final_training, "build", lambda *args: [owner.write_text("other"), build(*args)][1])
    with pytest.raises(StaleDriverError):
        train_final(item)
    assert not (owner.parent / "test-ledger.jsonl").exists()


def lost(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def test_a_run_that_fails_takes_no_other_with_it_and_is_told_in_one_line(
    finals: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path / "sweeps" / "s" / "owner"
    owner.parent.mkdir(parents=True)
    owner.write_text("token")
    made = finals({"direct": [(0.8, 0)]}, seeds=3)

    def measured(network: Any, *others: Any, **more: Any) -> Any:
        if not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise ValueError("a layer\nthat fails")
        return measure(network, *others, **more)

    ended: list[tuple[FinalRun, FinalResult]] = []
    with monkeypatch.context() as patch:
        patch.setattr(final_training, "measure", measured)
        with pytest.raises(ExternalError) as caught:
            ended.extend(made.run(made.verifications(), LocalExecutor()))
    assert [item.seed for item, _ in ended] == [1001, 1002]
    text = str(caught.value)
    assert text.startswith(
        "the final run direct/0 with seed 1000 failed: ValueError: a layer that fails; its traceback"
    )
    assert "\n" not in text
    (trace,) = tmp_path.rglob("1000/traceback.txt")
    assert str(trace) in text
    assert "in measured" in trace.read_text(encoding="utf-8")
    again = [item.seed for item, _ in made.run(made.verifications(), LocalExecutor())]
    assert again == [1001, 1002, 1000]


class Failing:
    """An executor of other processes, whose tasks have failed for good."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def tasks(self, _function: object, items: list[FinalRun]) -> list[tuple[FinalRun, FailedForGood]]:
        failure = Failure("memory", "MemoryError: 3 GiB")
        return [(item, FailedForGood(item.label, failure, self.trace)) for item in items]


def test_runs_that_are_given_up_elsewhere_are_told_with_their_workers_traceback(finals: Made, tmp_path: Path) -> None:
    made = finals(ONE, seeds=3)
    for trace in ("", "Traceback of the worker\n"):
        with pytest.raises(ExternalError) as caught:
            list(made.run(made.verifications(), Failing(trace)))  # type: ignore[arg-type]
        file = tmp_path / made.verifications()[0].job.folder / "traceback.txt"
        where = f"; its traceback is in {file}" if trace else ""
        assert str(caught.value) == (
            f"the final run direct/4 with seed 1000 failed, and 2 more: out of memory: MemoryError: 3 GiB{where} "
            "(the same command tries again what is missing)"
        )
        assert (file.read_text(encoding="utf-8") if file.exists() else "") == trace
