"""The conductor: takes a sweep from its file to its report, and on again from wherever an earlier driver stopped."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import filelock

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.config_model import flatten, parse, read_yaml, to_yaml
from supersnn.errors import UserError
from supersnn.files import write_atomically
from supersnn.records.events import Event
from tune.description.arms import Arm, resolve
from tune.description.sweep import SweepConfig
from tune.execution.executor import Executor
from tune.execution.prepare import inspect_dataset, prepare
from tune.execution.teacher_storage import TEACHERS
from tune.journal import Journal, read
from tune.outcome.export import Exporter
from tune.outcome.final_runs import Candidate, FinalRun, FinalRuns, read_verified
from tune.search.budget import Budget
from tune.search.driver import Search
from tune.search.studies import Studies, open_storage
from tune.store import Store, SweepFolder
from tune.tracking.tracker import behind
from tune.versions import code_version, versions

Watch = Callable[[str, Mapping[str, Any]], None]
MAY_CHANGE = ("search.trials", "search.hours", "search.gpu_hours", "verify.seeds", "resources.")
"""The keys that a sweep may be continued with another value of."""


@dataclass(frozen=True)
class SweepResult:
    """What a driver did: `worked` is False where nothing was left to do."""

    folder: SweepFolder
    worked: bool
    pending: int


class SweepRunner:
    """One driver of one sweep. `watch` hears every event and every change of stage."""

    def __init__(self, sweep: SweepConfig, arms: Mapping[str, Arm], store: Store, watch: Watch) -> None:
        self.sweep, self.arms, self.store, self.watch = sweep, arms, store, watch
        self.folder, self.storage = store.sweep(sweep.name), store.storage
        self.token = uuid.uuid4().hex
        self.studies = Studies(sweep, arms, open_storage(store.optuna_url), self.token)
        self.finals = FinalRuns(sweep, self.studies, self.folder, store, self.token)

    def run(
        self,
        executor: Callable[["SweepRunner"], Executor],
        tracker: Callable[["SweepRunner"], Any],
        searching: bool = True,
    ) -> SweepResult:
        """Do whatever is left to do; `executor` and `tracker` are started only when something is.

        Raises:
            UserError: something is left to search, and it is not to be (`searching`), or what is at the shared address
                belongs to a sweep of another store.
        """
        known = [event for event, _ in read(self.folder.journal)]
        self._require_own({event["driver"] for event in known if event["event"] == "sweep"})
        self.budget = Budget(self.sweep, self.studies, self.folder.path, known)
        if not searching and self._left_to_search():
            raise UserError(f"sweep {self.sweep.name!r}: its search has not ended; `supersnn sweep` goes on with it")
        if not self._left_to_do():
            return SweepResult(self.folder, False, self._catch_up(tracker))
        self.journal = Journal(self.folder.journal)
        self._event(
            "sweep",
            driver=self.token,
            code=code_version(),
            versions=versions(),
            resumed=any(event["event"] == "sweep" for event in known),
        )
        self.storage.write_text(self.storage.name(self.folder.owner), self.token)
        tracking = tracker(self)
        end = "failed"
        try:
            self.watch("stage", {"stage": "starting"})
            carrier = executor(self)
            try:
                tracking.wait_connected()
                self._prepare(carrier, known)
                self._search(carrier, known)
                self._verify(carrier, known)
            finally:
                carrier.close()
            self._export()
            end = "done"
        except KeyboardInterrupt:
            end = "interrupted"
            raise
        finally:
            self._event("close", driver=self.token, end=end)
            self.journal.close()
            pending = tracking.close()
        return SweepResult(self.folder, True, pending)

    def _require_own(self, drivers: set[str]) -> None:
        """Refuse a shared address that a sweep of this name, of another store, uses."""
        self.storage.require_owner(self.storage.name(self.folder.owner), drivers)

    def _catch_up(self, tracker: Callable[["SweepRunner"], Any]) -> int:
        """Tell MLflow what an earlier driver could not; return how many events are still pending."""
        if not behind(self.folder, self.store):
            return 0
        tracking = tracker(self)
        tracking.wait_connected()
        return int(tracking.close())

    def _left_to_do(self) -> bool:
        if self._left_to_search():
            return True
        if self.finals.left():
            return True
        verified = read_verified(self.folder)
        return any(
            verified.get(arm, {}).get("trial") != winner.trial
            or len(verified[arm]["results"]) < self.sweep.verify.seeds
            or not (self.folder.best / arm).exists()
            for arm, winner in self.finals.winners().items()
        )

    def _left_to_search(self) -> bool:
        return self.studies.under_way() or not (self.studies.full() or self.budget.exhausted())

    def _event(self, event: str, **fields: Any) -> None:
        self.journal.append(event, **fields)
        self.watch(event, fields)

    def _prepare(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        """Have the images found, every teacher trained and its bank filled before a trial needs them.

        Teachers that an earlier driver had are those of all nodes too, should they not be where nodes look now.
        """
        self.watch("stage", {"stage": "teachers"})
        for digest in {event["digest"] for event in known if event["event"] in ("teacher", "refit")}:
            self.storage.get_or_create(f"{TEACHERS}/{digest}", lambda: None)
        if not any(event["event"] == "data" for event in known):
            self._event("data", **_fields(inspect_dataset(self.arms, executor)))
        told = {event["digest"] for event in known if event["event"] in ("teacher", "bank")}
        for prepared in prepare(self.arms, self.storage, executor):
            for event in prepared.events():
                if event.digest not in told:
                    self._event(event.event, **_fields(event))

    def _search(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        self.watch("stage", {"stage": "search"})
        search = Search(
            self.studies,
            self.journal,
            self.budget,
            self.folder.path,
            self.storage,
            self.token,
            tuple(range(self.sweep.seed, self.sweep.seed + self.sweep.search.seeds_per_trial)),
            {f"{event['arm']}/{event['trial']}": event["epoch"] for event in known if event["event"] == "epoch"},
            self.watch,
        )
        search.reconcile({f"{event['arm']}/{event['trial']}" for event in known if event["event"] == "end"})
        if self._left_to_search():
            executor.search(search)
        if search.halted is not None:
            raise search.halted

    def _verify(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        self.watch("stage", {"stage": "verify"})
        self._rank(executor, known)
        winners = self.finals.winners()
        for arm, winner in winners.items():
            self._event("winner", arm=arm, trial=winner.trial, value=winner.search_value)
        self._refit(executor, known)
        told = {(e["arm"], e["trial"], e["seed"]) for e in known if e["event"] == "verified"}
        results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in winners}
        for item, result in self.finals.run(self.finals.verifications(), executor):
            results[item.arm].append(result)
            fields = _verified_event(item, result)
            if (item.arm, item.trial, item.seed) in told:
                self.watch("verified", fields)
            else:
                self._event("verified", **fields)
            self._write_verified(winners, results)

    def _rank(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        """Train the candidates of arms that have several, with seeds that serve for nothing else."""
        told = {(e["arm"], e["trial"], e["seed"]) for e in known if e["event"] == "ranked"}
        for item, result in self.finals.run(self.finals.rankings(), executor):
            if (item.arm, item.trial, item.seed) not in told:
                told_now = {"value": result["val"], "seconds": result["seconds"]}
                self._event("ranked", arm=item.arm, trial=item.trial, seed=item.seed, **told_now)

    def _refit(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        """Have the winners' teachers fitted anew where the final trainings see more images than the search."""
        told = {event["digest"] for event in known if event["event"] == "refit"}
        for prepared in prepare(self.finals.refitted(self.arms), self.storage, executor):
            if prepared.teacher.digest not in told:
                seconds = prepared.cache.seconds if prepared.cache is not None else 0.0
                self._event("refit", **_fields(prepared.teacher), bank_seconds=seconds)

    def _write_verified(self, winners: Mapping[str, Candidate], results: Mapping[str, list[dict[str, Any]]]) -> None:
        arms = {
            arm: {
                "trial": winners[arm].trial,
                "search_value": winners[arm].search_value,
                "rank_value": winners[arm].ranked,
                "results": sorted(done, key=lambda result: int(result["seed"])),
            }
            for arm, done in results.items()
        }
        write_atomically(self.folder.verified, json.dumps({"arms": arms}, indent=1))

    def _export(self) -> None:
        """Write an export folder for each arm, and that of the best one once more as `overall`."""
        self.watch("stage", {"stage": "export"})
        exporter = Exporter(self.folder, self.store)
        seeds = {arm: exporter.arm(arm, self.folder.best / arm)["seed"] for arm in exporter.verified_arms()}
        if seeds:
            best = exporter.best_arm()
            exported.copy(self.folder.best / best, self.folder.best / "overall")
            for arm, name in [*((arm, arm) for arm in seeds), (best, "overall")]:
                self._event("export", arm=arm, folder=str(self.folder.best / name), seed=seeds[arm])


def _fields(event: Event) -> dict[str, Any]:
    return event.model_dump(exclude={"event", "time"})


def _verified_event(item: FinalRun, result: Mapping[str, Any]) -> dict[str, Any]:
    names = {"val": "val/accuracy", "test": "test/accuracy", "test_loss": "test/loss", "spike_rate": "spikes/rate"}
    names |= {"synaptic_ops": "ops/synaptic", "mac": "ops/mac", "energy_nj": "energy/nj"}
    metrics = {name: result[key] for key, name in names.items()}
    config = flatten(parse(TrainConfig, item.job.config, item.job.key))
    fields = {"arm": item.arm, "trial": item.trial, "seed": item.seed, "config": config}
    return fields | {"metrics": metrics, **{key: result[key] for key in ("rates", "seconds", "opened")}}


@contextmanager
def claimed(sweep: SweepConfig, store: Store) -> Iterator[None]:
    """Hold the sweep for this driver, and keep its description; the lock goes with the process, however it ends.

    Raises:
        UserError: another driver holds it, or it was begun with other values.
    """
    folder = store.sweep(sweep.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"sweep {sweep.name!r}: another driver is running it (it holds {folder.lock})") from error
    try:
        _check_continued(sweep, folder)
        write_atomically(folder.config, to_yaml(sweep))
        yield
    finally:
        lock.release()


def _check_continued(sweep: SweepConfig, folder: SweepFolder) -> None:
    if not folder.config.exists():
        return
    before = flatten(parse(SweepConfig, read_yaml(folder.config), str(folder.config)))
    now = flatten(sweep)
    other = [
        f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if other:
        raise UserError(
            f"sweep {sweep.name!r} was begun with other values ({'; '.join(other)}): "
            "give it another name, or the same values"
        )


def run_sweep(
    sweep: SweepConfig,
    store: Store,
    executor: Callable[[SweepRunner], Executor],
    tracker: Callable[[SweepRunner], Any],
    watch: Watch = lambda event, fields: None,
    origin: str = "sweep",
    searching: bool = True,
) -> SweepResult:
    """Run a sweep, or go on with it, to its verified results and export folders; see `SweepRunner.run`."""
    arms = resolve(sweep, origin)
    with claimed(sweep, store):
        return SweepRunner(sweep, arms, store, watch).run(executor, tracker, searching)
