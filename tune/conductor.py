"""The conductor: takes a sweep from its file to its report, and on again from wherever an earlier driver stopped."""

import json
import statistics
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from supersnn.checkpoint import write_atomically
from supersnn.config import TrainConfig, flatten, parse, read_yaml, to_yaml
from supersnn.errors import UserError
from tune import verify
from tune.arms import Arm, resolve
from tune.budget import Budget
from tune.executor import Executor
from tune.export import export_verified
from tune.journal import Journal, read
from tune.prepare import prepare
from tune.search import Search
from tune.store import Store, SweepFolder
from tune.studies import Studies, open_storage
from tune.sweep import SweepConfig
from tune.versions import code_version, versions

Watch = Callable[[str, Mapping[str, Any]], None]
MAY_CHANGE = ("search.trials", "search.hours", "search.gpu_hours", "verify.seeds", "resources.")
"""The keys that a sweep may be continued with another value of."""


@dataclass(frozen=True)
class Conducted:
    """What a driver did: `worked` is False where nothing was left to do."""

    folder: SweepFolder
    worked: bool
    pending: int


class Conductor:
    """One driver of one sweep. `watch` hears every event and every change of stage."""

    def __init__(self, sweep: SweepConfig, arms: Mapping[str, Arm], store: Store, watch: Watch) -> None:
        self.sweep, self.arms, self.store, self.watch = sweep, arms, store, watch
        self.folder = store.sweep(sweep.name)
        self.token = uuid.uuid4().hex
        self.studies = Studies(sweep, arms, open_storage(store.optuna_url), self.token)

    def run(self, executor: Callable[["Conductor"], Executor], tracker: Callable[["Conductor"], Any]) -> Conducted:
        """Do whatever is left to do; `executor` and `tracker` are started only when something is."""
        known = [event for event, _ in read(self.folder.journal)]
        self.budget = Budget(self.sweep, self.studies, self.folder.path, known)
        if not self._left_to_do():
            return Conducted(self.folder, False, 0)
        write_atomically(self.folder.owner, self.token)
        self.journal = Journal(self.folder.journal)
        self._event(
            "sweep",
            driver=self.token,
            code=code_version(),
            versions=versions(),
            resumed=any(event["event"] == "sweep" for event in known),
        )
        tracking = tracker(self)
        end = "failed"
        try:
            self.watch("stage", {"stage": "starting Ray"})
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
        return Conducted(self.folder, True, pending)

    def _left_to_do(self) -> bool:
        if self._left_to_search():
            return True
        verified = read_verified(self.folder)
        return any(
            verified.get(arm, {}).get("trial") != number
            or len(verified[arm]["results"]) < self.sweep.verify.seeds
            or not (self.folder.best / arm).exists()
            for arm, (_, number) in self.studies.best.items()
        )

    def _left_to_search(self) -> bool:
        return self.studies.under_way() or not (self.studies.full() or self.budget.exhausted())

    def _event(self, event: str, **fields: Any) -> None:
        self.journal.append(event, **fields)
        self.watch(event, fields)

    def _prepare(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        """Have every teacher trained and its bank filled before a trial needs them."""
        self.watch("stage", {"stage": "teachers"})
        told = {event["digest"] for event in known if event["event"] in ("teacher", "bank")}
        for teaching in prepare(self.arms, self.store.path, executor):
            for event, fields in teaching.events():
                if fields["digest"] not in told:
                    self._event(event, **fields)

    def _search(self, executor: Executor, known: list[dict[str, Any]]) -> None:
        self.watch("stage", {"stage": "search"})
        search = Search(
            self.studies,
            self.journal,
            self.budget,
            self.folder.path,
            self.store.path,
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
        told = {(e["arm"], e["trial"], e["seed"]) for e in known if e["event"] == "verified"}
        winners = {}
        for arm in (arm for arm in self.arms if arm in self.studies.best):
            value, number = self.studies.best[arm]
            winners[arm] = number, self.studies.config(arm, number)
            self._event("winner", arm=arm, trial=number, value=value)
        seeds = range(self.sweep.verify.first_seed, self.sweep.verify.first_seed + self.sweep.verify.seeds)
        items = verify.plan(winners, seeds, self.folder.path, self.store.path, self.token)
        results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in winners}
        for item, result in verify.run(items, executor):
            if isinstance(result, Exception):
                raise result
            results[item.arm].append(result)
            fields = _verified_event(item, result)
            if (item.arm, item.trial, item.seed) in told:
                self.watch("verified", fields)
            else:
                self._event("verified", **fields)
            self._write_verified(results)

    def _write_verified(self, results: Mapping[str, list[dict[str, Any]]]) -> None:
        arms = {
            arm: {
                "trial": self.studies.best[arm][1],
                "search_value": self.studies.best[arm][0],
                "results": sorted(done, key=lambda result: int(result["seed"])),
            }
            for arm, done in results.items()
        }
        write_atomically(self.folder.verified, json.dumps({"arms": arms}, indent=1))

    def _export(self) -> None:
        """Write an export folder for each arm, and `overall` for the best mean validation accuracy of fresh seeds."""
        self.watch("stage", {"stage": "export"})
        verified = read_verified(self.folder)
        for arm in verified:
            self._export_arm(arm, verified[arm], self.folder.best / arm)
        if verified:
            overall = max(verified, key=lambda arm: statistics.fmean(r["val"] for r in verified[arm]["results"]))
            self._export_arm(overall, verified[overall], self.folder.best / "overall")

    def _export_arm(self, arm: str, entry: Mapping[str, Any], to: Path) -> None:
        number = entry["trial"]
        about = {
            "sweep": self.sweep.name,
            "arm": arm,
            "trial": number,
            "search_value": entry["search_value"],
            "trials": self.studies.counts[arm].handed_out,
        }
        trial_folder = self.folder.path / "verified" / arm / str(number)
        seed = export_verified(to, self.studies.config(arm, number), trial_folder, entry["results"], about)
        self._event("export", arm=arm, folder=str(to), seed=seed)


def _verified_event(item: verify.Verification, result: Mapping[str, Any]) -> dict[str, Any]:
    names = {"val": "val/accuracy", "test": "test/accuracy", "test_loss": "test/loss", "spike_rate": "spikes/rate"}
    names |= {"synaptic_ops": "ops/synaptic", "mac": "ops/mac", "energy_nj": "energy/nj"}
    metrics = {name: result[key] for key, name in names.items()}
    config = flatten(parse(TrainConfig, item.job.config, item.job.key))
    fields = {"arm": item.arm, "trial": item.trial, "seed": item.seed, "config": config}
    return fields | {"metrics": metrics, "seconds": result["seconds"]}


def read_verified(folder: SweepFolder) -> dict[str, Any]:
    """Return the verified results by arm; nothing before the first one."""
    if not folder.verified.exists():
        return {}
    arms: dict[str, Any] = json.loads(folder.verified.read_text(encoding="utf-8"))["arms"]
    return arms


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


def conduct(
    sweep: SweepConfig,
    store: Store,
    executor: Callable[[Conductor], Executor],
    tracker: Callable[[Conductor], Any],
    watch: Watch = lambda event, fields: None,
    origin: str = "sweep",
) -> Conducted:
    """Run a sweep, or go on with it, to its verified results and export folders."""
    arms = resolve(sweep, origin)
    with claimed(sweep, store):
        return Conductor(sweep, arms, store, watch).run(executor, tracker)
