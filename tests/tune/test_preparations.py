"""Teachers prepared beside trials: each when its search is next, recorded once, found where they are complete."""

import json
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.search import Searcher

from supersnn.errors import ExternalError, UserError
from supersnn.records.events import TeacherCached, TeacherTrained
from supersnn.teacher_outputs import OutputKind
from tune.execution import retries, searcher
from tune.execution.cluster_state import ClusterState
from tune.execution.failed_teachers import TeacherFailures, require_none
from tune.execution.failures import Failure
from tune.execution.preparations import Preparation, PreparationFailed, Preparations, Prepared
from tune.execution.retries import RetryPolicy
from tune.execution.trial_watch import TrialWatch
from tune.notices import Notice, Preparing, TaskFailed, TaskRetried
from tune.search.messages import Job
from tune.search.search import Search
from tune.storage import Storage

KINDS = (OutputKind("logits"),)


def item(teacher: str) -> Preparation:
    return Preparation({"teacher": {"name": teacher}}, (), "/store", replicate=1)


def result(teacher: str) -> Prepared:
    trained = TeacherTrained(name=teacher, digest=teacher, family="vgg", replicate=1)
    return Prepared(trained, TeacherCached(teacher=teacher, digest=f"c{teacher}"))


class Prepares:
    """Preparations of two searches that share a teacher, and what is recorded and shown of them."""

    def __init__(self, complete: tuple[str, ...] = ()) -> None:
        self.shared, self.own = item("shared"), item("own")
        self.recorded: list[str] = []
        self.shown: list[tuple[str, ...]] = []
        self.looked: list[str] = []
        self.failures: list[str] = []
        needs = {"direct": [], "a": [self.shared], "b": [self.shared, self.own]}
        self.them = Preparations(
            needs,
            find=lambda one: self._find(one, complete),
            work=lambda one: result(one.teacher),
            record=lambda prepared: self.recorded.append(prepared.teacher.name),
            notify=self._show,
        )

    def _find(self, one: Preparation, complete: tuple[str, ...]) -> Prepared | None:
        self.looked.append(one.teacher)
        return result(one.teacher) if one.teacher in complete else None

    def _show(self, notice: Notice) -> None:
        if isinstance(notice, TaskFailed | TaskRetried):
            self.failures.append(f"{notice.task}: {notice.reason}")
        else:
            assert isinstance(notice, Preparing)
            self.shown.append(notice.teachers)


def test_a_shared_teacher_is_prepared_and_recorded_once() -> None:
    prepares = Prepares()
    them = prepares.them
    assert them.missing("direct") == []
    assert (them.missing("a"), them.missing("b")) == ([prepares.shared], [prepares.shared, prepares.own])
    key = them.start(prepares.shared)
    assert not them.may_start(prepares.shared)
    assert them.may_start(prepares.own)
    assert them.has(key)
    for _ in range(2):
        them.ended(key, result("shared"))
    assert (them.missing("a"), them.missing("b")) == ([], [prepares.own])
    assert (prepares.recorded, prepares.shown) == (["shared"], [("shared",), ()])
    assert prepares.looked == ["shared", "own"]


def test_what_is_complete_is_found_when_it_is_needed() -> None:
    prepares = Prepares(complete=("shared",))
    assert prepares.looked == []
    assert prepares.them.missing("b") == [prepares.own]
    assert prepares.them.missing("a") == []
    assert prepares.recorded == ["shared"]


def test_a_failure_that_the_user_can_mend_ends_the_search() -> None:
    prepares = Prepares()
    key = prepares.them.start(prepares.shared)
    failed = PreparationFailed(**json.loads(json.dumps(vars(PreparationFailed.of(UserError("weights: no file"))))))
    with pytest.raises(UserError, match="weights: no file"):
        prepares.them.ended(key, failed)


def test_another_failure_leaves_the_rest_to_go_on_and_is_one_line_at_its_end(tmp_path: Path) -> None:
    prepares = Prepares()
    require_none(prepares.them.failed, Storage(tmp_path))
    try:
        raise ValueError("expected 3 channels,\nfound 1")
    except ValueError as error:
        failed = PreparationFailed.of(error)
    prepares.them.ended(prepares.them.start(prepares.own), PreparationFailed(**json.loads(json.dumps(vars(failed)))))
    assert not prepares.them.may_start(prepares.own)
    assert prepares.them.may_start(prepares.shared)
    assert prepares.them.missing("b") == [prepares.shared, prepares.own]
    assert prepares.failures == ["teacher own: ValueError: expected 3 channels, found 1"]
    with pytest.raises(ExternalError) as raised:
        require_none(prepares.them.failed, Storage(tmp_path))
    trace = tmp_path / "teachers" / f"{prepares.own.name}-traceback.txt"
    assert trace.name.startswith("own-")
    assert str(raised.value) == (
        f"teacher own could not be prepared: ValueError: expected 3 channels, found 1; its traceback is in {trace} "
        "(the same command tries again what is missing)"
    )
    assert "raise ValueError" in trace.read_text(encoding="utf-8")


def test_a_result_survives_its_message() -> None:
    for prepared in (result("x"), Prepared(result("x").teacher, None)):
        assert Prepared.from_text(prepared.as_text()) == prepared
    assert Preparation(**item("x").task()).task() == item("x").task()


def ready(teacher: str) -> dict[str, Any]:
    return {"prepared": result(teacher).as_text(), "node": "id"}


def failed(error: Exception) -> dict[str, Any]:
    return {"failed": json.dumps(vars(PreparationFailed.of(error))), "node": "id"}


class Wants:
    """A search whose next trials are of some searches, in that order, as soon as these are ready."""

    def __init__(self, *searches: str) -> None:
        self.left, self.calls = list(searches), list[str]()
        self.over, self.held = False, list[str]()
        self.settings = SimpleNamespace(search=SimpleNamespace(max_failures=0))

    def poll(self) -> None:
        pass

    def store_full(self, text: str) -> UserError | None:
        return UserError("the store is full") if "/store" in text else None

    def waits(self, reason: str) -> None:
        assert reason == ""

    def next_job(self, ready: Any) -> Job | None:
        for name in self.left:
            if ready(SimpleNamespace(name=name)):
                self.left.remove(name)
                return Job(f"{name}/0", {}, (0,), f"s/trials/{name}/0", "s", "/store", "token")
        return None

    def requeue(self, key: str) -> None:
        self.calls.append(f"requeue {key}")

    def halt(self, reason: UserError) -> None:
        self.calls.append(f"halt {reason}")


class Nodes:
    """A cluster with room for so many."""

    device, requirements, gpus, keeper = "cpu", None, 0.0, None

    def __init__(self, capacity: int) -> None:
        self.capacity, self.excluded = lambda: capacity, list[Any]()
        self.exclude = self.excluded.append
        self.policy = RetryPolicy(0)

    def able_nodes(self) -> dict[str, str]:
        return {"id": "node", "id2": "node2"}

    open_nodes = able_nodes

    def look_again(self) -> None:
        pass

    def no_usable_nodes(self) -> None:
        return None

    def label_selector(self, avoid: Collection[str]) -> dict[str, str]:
        return {"avoid": ",".join(sorted(avoid))}


def hooks(wants: Wants, capacity: int, them: Preparations) -> tuple[searcher.StudySearcher, searcher.StudyScheduler]:
    common: Any = cast(Search, wants), cast(ClusterState, Nodes(capacity)), searcher.DriverWork(), them
    return searcher.StudySearcher(*common), searcher.StudyScheduler(*common)


def test_a_teacher_takes_the_place_of_the_trial_that_waits_for_it_and_others_go_on() -> None:
    prepares, wants = Prepares(), Wants("b", "direct", "a")
    suggests, decides = hooks(wants, 3, prepares.them)
    first, second, third = (suggests.suggest(name) for name in ("t1", "t2", "t3"))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert isinstance(third, dict)
    assert first["preparation"]["config"]["teacher"]["name"] == "shared"
    assert second["preparation"]["config"]["teacher"]["name"] == "own"
    assert third["job"]["key"] == "direct/0"
    assert suggests.suggest("t4") is None  # the cluster is full
    ended = SimpleNamespace(trial_id="t", config=first)
    assert decides.on_trial_result(None, ended, {"advanced": 2.5, "node": "n"}) == "CONTINUE"
    assert prepares.them.slowest() == 2.5
    assert decides.on_trial_result(None, ended, ready("shared")) == "STOP"
    suggests.on_trial_complete("t1")
    fourth = suggests.suggest("t4")
    assert isinstance(fourth, dict)
    assert fourth["job"]["key"] == "a/0"
    decides.on_trial_result(None, SimpleNamespace(trial_id="t", config=second), ready("own"))
    suggests.on_trial_complete("t2")
    fifth = suggests.suggest("t5")
    assert isinstance(fifth, dict)
    assert fifth["job"]["key"] == "b/0"
    for trial in ("t3", "t4", "t5"):
        suggests.on_trial_complete(trial)
    assert suggests.suggest("t6") == Searcher.FINISHED
    assert prepares.recorded == ["shared", "own"]
    assert wants.calls == []


def test_a_teacher_on_a_node_that_differs_is_prepared_elsewhere() -> None:
    prepares, wants = Prepares(), Wants("a")
    suggests, decides = hooks(wants, 2, prepares.them)
    first = suggests.suggest("t1")
    assert isinstance(first, dict)
    mismatch = json.dumps({"node": "n", "reason": "other torch"})
    assert (
        decides.on_trial_result(None, SimpleNamespace(trial_id="t", config=first), {"node_mismatch": mismatch})
        == "STOP"
    )
    suggests.on_trial_complete("t1")
    again = suggests.suggest("t2")
    assert isinstance(again, dict)
    assert again["preparation"] == first["preparation"]
    assert wants.calls == []


class Failing:
    """A watch that tells the same failure of every trial."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure

    def look(self) -> None:
        pass

    def drop(self, trial_id: str) -> tuple[Failure, str]:
        assert trial_id.startswith("t")
        return self.failure, "id"


def test_a_teacher_whose_machine_failed_is_prepared_elsewhere_and_the_run_ends_where_all_fail() -> None:
    prepares, wants, driver = Prepares(), Wants("b"), searcher.DriverWork()
    watch = cast(TrialWatch, Failing(Failure("gpu", "RuntimeError: CUDA error")))
    cluster = Nodes(2)
    suggests = searcher.StudySearcher(cast(Search, wants), cast(ClusterState, cluster), driver, prepares.them, watch)
    first = suggests.suggest("t1")
    suggests.on_trial_complete("t1", error=True)
    second = suggests.suggest("t2")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["preparation"] == second["preparation"]
    assert (first["labels"], second["labels"]) == ({"avoid": ""}, {"avoid": "id"})
    cluster.policy.failed("x", Failure("gpu", "x"), "id2", cluster.able_nodes())
    for number in range(2, 5):
        suggests.on_trial_complete(f"t{number}", error=True)
        suggests.suggest(f"t{number + 1}")
    suggests.on_trial_complete("t5", error=True)
    assert wants.calls[0].startswith("halt everything fails: 6 attempts in a row")
    assert driver.error is None


def test_a_run_waits_for_the_teacher_that_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    prepares, wants, driver, cluster = Prepares(), Wants("b"), searcher.DriverWork(), Nodes(2)
    watch = cast(TrialWatch, Failing(Failure("io", "OSError: [Errno 5] Input/output error")))
    cluster.policy.succeeded("x/0", "id")
    suggests = searcher.StudySearcher(cast(Search, wants), cast(ClusterState, cluster), driver, prepares.them, watch)
    for number in range(2):
        assert isinstance(suggests.suggest(f"t{number}"), dict)
        cluster.policy.succeeded("x/0", "id")
        suggests.on_trial_complete(f"t{number}", error=True)
    other = suggests.suggest("t2")
    assert isinstance(other, dict)
    assert other["preparation"]["config"]["teacher"]["name"] == "own", "others go on"
    prepares.them.ended(other["key"], result("own"))
    suggests.on_trial_complete("t2")
    assert suggests.suggest("t3") is None, "the run does not end"
    wants.over = True
    assert suggests.suggest("t3") == Searcher.FINISHED
    wants.over = False
    now[0] += retries.WAIT
    again = suggests.suggest("t3")
    assert isinstance(again, dict)
    assert again["preparation"]["config"]["teacher"]["name"] == "shared"
    assert driver.error is None


def test_a_failed_teacher_ends_the_run() -> None:
    prepares = Prepares()
    driver = searcher.DriverWork()
    common: Any = cast(Search, Wants("a")), cast(ClusterState, Nodes(2)), driver, prepares.them
    suggests, decides = searcher.StudySearcher(*common), searcher.StudyScheduler(*common)
    first = suggests.suggest("t1")
    assert isinstance(first, dict)
    told = failed(UserError("teacher.weights: no file"))
    assert decides.on_trial_result(None, SimpleNamespace(trial_id="t", config=first), told) == "STOP"
    assert isinstance(driver.error, UserError)
    assert suggests.suggest("t2") == Searcher.FINISHED


def test_a_teachers_own_error_is_tried_again_as_a_trials_is() -> None:
    prepares, wants = Prepares(), Wants("a")
    wants.settings.search.max_failures = 2
    suggests, decides = hooks(wants, 2, prepares.them)
    policy = cast(Any, suggests)._cluster.policy
    results = [failed(ValueError("odd")), {"failure": "ValueError: early", "stale": False, "node": "id"}]
    for number, told in enumerate([*results, failed(ValueError("last"))]):
        suggested = suggests.suggest(f"t{number}")
        assert isinstance(suggested, dict)
        assert suggested["preparation"]["config"]["teacher"]["name"] == "shared"
        assert suggested["labels"] == {"avoid": "id" if number == 2 else ""}
        assert prepares.them.failed == {}
        decides.on_trial_result(None, SimpleNamespace(trial_id="t", config=suggested), told)
        suggests.on_trial_complete(f"t{number}")
    assert prepares.failures == [f"teacher shared: ValueError: {text}" for text in ("odd", "early", "last")]
    assert "ValueError: last" in prepares.them.failed[prepares.shared].trace
    assert policy.attempts(prepares.shared.name) == 0
    assert suggests.suggest("t3") == Searcher.FINISHED
    assert wants.calls == []


def test_a_teacher_that_is_ready_has_no_failures_any_more() -> None:
    prepares, wants = Prepares(), Wants("a")
    wants.settings.search.max_failures = 1
    suggests, decides = hooks(wants, 2, prepares.them)
    policy = cast(Any, suggests)._cluster.policy
    for number, told in enumerate([failed(ValueError("odd")), ready("shared")]):
        suggested = suggests.suggest(f"t{number}")
        decides.on_trial_result(None, SimpleNamespace(trial_id="t", config=suggested), told)
        suggests.on_trial_complete(f"t{number}")
        assert policy.attempts(prepares.shared.name) == (number == 0)
    assert prepares.recorded == ["shared"]


def test_a_full_disk_of_the_store_halts_the_search() -> None:
    prepares, wants = Prepares(), Wants("a")
    failures = TeacherFailures(cast(Search, wants), prepares.them, RetryPolicy(2))
    failures.failed(prepares.them.start(prepares.shared), Failure("disk", "OSError: No space left: '/store/x'"), "id")
    assert wants.calls == ["halt the store is full"]
    assert prepares.failures == []
    failures.failed(prepares.them.start(prepares.shared), Failure("disk", "OSError: No space left: '/tmp/x'"), "id")
    assert prepares.failures == ["teacher shared: OSError: No space left: '/tmp/x'"]


def test_two_recipes_of_one_architecture_are_told_apart(tmp_path: Path) -> None:
    one, two = (Preparation({"teacher": {"name": "vgg8", "epochs": epochs}}, KINDS, "/store") for epochs in (1, 2))
    assert one.name != two.name
    assert one.name == Preparation(**one.task()).name
    assert one.label == two.label == "teacher vgg8"
    failures = {one: PreparationFailed("x", False, "first"), two: PreparationFailed("y", False, "second")}
    with pytest.raises(ExternalError, match="teacher vgg8 could not be prepared, and 1 more: x"):
        require_none(failures, Storage(tmp_path))
    assert {path.read_text(encoding="utf-8") for path in (tmp_path / "teachers").iterdir()} == {"first", "second"}
