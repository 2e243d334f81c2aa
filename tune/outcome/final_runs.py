"""After the search: candidates are ranked, winners chosen, trained again with fresh seeds, and tested once.

The `verify.top` best trials of each search are its candidates. Several are first ranked by their mean validation
accuracy over seeds of their own, with the test images closed; the winner is verified with seeds that chose nothing.
"""

import json
import statistics
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from supersnn.config import TrainConfig
from supersnn.config_model import with_values
from supersnn.digests import digest
from supersnn.files import sha256
from supersnn.nested import merge
from supersnn.records.events import WinnerVerified
from supersnn.records.state import SweepState
from supersnn.test_set import append
from tune.description.searches import PlannedSearch
from tune.description.sweep import SweepConfig
from tune.execution.executor import Executor
from tune.outcome import failed_runs
from tune.outcome.final_result import FinalResult, Recorded
from tune.outcome.final_training import RESULT, WEIGHTS, FinalRun, stored_result, test_purpose, train_final
from tune.search.messages import Job
from tune.search.studies import Studies
from tune.storage import Storage
from tune.store import Store, SweepFolder

VERIFIED, RANKED, RETRAINED = "verified", "ranked", "retrained"
"""The sweep's folders of trainings after the search, each with a folder SEARCH/N/SEED."""
RANKING_SEEDS = 1_000_000
"""The distance between the first seed that verifies and the first that ranks."""


@dataclass(frozen=True)
class Candidate:
    """A trial that may be a search's winner: its value in the search, the mean of its ranking where there was one."""

    trial: int
    search_value: float
    config: TrainConfig
    ranked: float | None = None


def final_run(
    part: str,
    search: str,
    trial: int,
    config: TrainConfig,
    seed: int,
    folder: SweepFolder,
    storage: Storage,
    token: str,
    save_every: float,
) -> FinalRun:
    """Return a trial's training with a seed, stored in a part of the sweep's folder; those of `VERIFIED` are tested.

    `save_every`: seconds between two of its checkpoints.
    """
    key, sweep = f"{search}/{trial}/{seed}", storage.name(folder.path)
    job = Job(
        key=key,
        config=with_values(config, {"seed": seed}).model_dump(mode="json"),
        seeds=(seed,),
        folder=f"{sweep}/{part}/{key}",
        sweep=sweep,
        store=storage.address,
        token=token,
        save_every=save_every,
    )
    ledger = storage.ledger_for(storage.name(folder.ledger), job.folder) if part == VERIFIED else None
    return FinalRun(part, search, trial, seed, job, ledger, keep=part != RANKED)


class FinalRuns:
    """The final runs of a sweep: its candidates, their ranking, the winners and their verification."""

    def __init__(
        self,
        sweep: SweepConfig,
        studies: Studies,
        folder: SweepFolder,
        store: Store,
        token: str = "",
        state: SweepState | None = None,
    ) -> None:
        self._sweep, self._studies, self._state = sweep, studies, state or SweepState()
        self._folder, self._storage, self._token = folder, store.storage, token
        self._incomplete: frozenset[str] = frozenset()

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of `verify.seeds` and `verify.top`."""
        self._sweep = sweep

    def leave_out(self, incomplete: Collection[str]) -> None:
        """Have no final runs of these searches, and of no others: they lack trials that a later driver will run."""
        self._incomplete = frozenset(incomplete)

    def candidates(self) -> dict[str, list[Candidate]]:
        """Return each search's best trials, the best first; those without a finished feasible one are left out.

        So are those of `leave_out`.
        """
        top = self._sweep.verify.top
        searches = [search for search in self._studies.searches if search not in self._incomplete]
        best = {search: self._studies.ranking(search)[:top] for search in searches}
        return {
            search: [Candidate(number, value, self._studies.config(search, number)) for value, number in ranking]
            for search, ranking in best.items()
            if ranking
        }

    def rankings(self) -> list[FinalRun]:
        """Return the runs that rank candidates, seed by seed; none where a search has only one."""
        several = {search: candidates for search, candidates in self.candidates().items() if len(candidates) > 1}
        return [
            self._final_run(RANKED, search, candidate.trial, candidate.config, self._first_seed(search) + seed)
            for seed in range(RANKING_SEEDS, RANKING_SEEDS + self._sweep.verify.rank_seeds)
            for search, candidates in several.items()
            for candidate in candidates
        ]

    def winners(self) -> dict[str, Candidate]:
        """Return each search's winner; every ranking run has ended."""
        values: dict[tuple[str, int], list[float]] = {}
        for item in self.rankings():
            values.setdefault((item.search, item.trial), []).append(self._result(item).val)
        winners = {}
        for search, candidates in self.candidates().items():
            known = [c.trial for c in candidates if (search, c.trial) in values]
            means = {trial: statistics.fmean(values[search, trial]) for trial in known}
            ranked = [replace(c, ranked=means.get(c.trial)) for c in candidates]
            winners[search] = max(ranked, key=lambda c: c.search_value if c.ranked is None else c.ranked)
        return winners

    def verifications(self) -> list[FinalRun]:
        """Return the runs that verify winners, seed by seed, so that arms stay paired if they end early.

        The same seeds serve every arm in a replicate: initialisation and data order are then the same, and differences
        are paired.
        """
        winners = self.winners()
        return [
            self._final_run(
                VERIFIED, search, winner.trial, self._final_config(winner.config), self._first_seed(search) + seed
            )
            for seed in range(self._sweep.verify.seeds)
            for search, winner in winners.items()
        ]

    def refitted(self) -> dict[str, PlannedSearch]:
        """Return the winners' searches as their final runs need them where those see more images than the search."""
        if self._sweep.verify.train_on == "train":
            return {}
        final = {"dataset": {"train_on": self._sweep.verify.train_on}}
        refitted = {}
        for name, winner in self.winners().items():
            search, teacher = self._studies.searches[name], winner.config.teacher.name
            if teacher is not None:
                arm = replace(search.arm, base=merge(search.arm.base, final), teachers=(teacher,))
                refitted[name] = replace(search, arm=arm)
        return refitted

    def left(self) -> bool:
        """Return whether a ranking or a verification has not been trained."""
        return any(self._stored(item) is None for item in self.rankings()) or any(
            self._stored(item) is None for item in self.verifications()
        )

    def run(self, items: list[FinalRun], executor: Executor) -> Iterator[tuple[FinalRun, FinalResult]]:
        """Yield each run with its result; see `run`. Each opening of the test images is in the sweep's ledger."""
        for item in items:
            self._restore(item)
        for item, result in run(items, executor, self._storage, self._recorded):
            if item.ledger is not None:
                _merge_ledger(self._storage.root / item.ledger, self._folder.ledger)
            yield item, result

    def _recorded(self, item: FinalRun) -> Recorded | None:
        """Return the journal's event of a run."""
        return recorded(self._state, item)

    def _stored(self, item: FinalRun) -> FinalResult | None:
        return stored_result(item, self._storage, self._recorded(item))

    def _result(self, item: FinalRun) -> FinalResult:
        """Return the result of a run that has ended.

        Raises:
            ValueError: it has not.
        """
        return _ended(item, self._stored(item))

    def _restore(self, item: FinalRun) -> None:
        """Write the file of a result that the journal has, where only the file is lost and not the tested weights."""
        event, folder = self._recorded(item), self._storage.root / item.job.folder
        if not isinstance(event, WinnerVerified) or (folder / RESULT).exists() or not (folder / WEIGHTS).exists():
            return
        tested = test_of(self._folder.ledger, test_purpose(item.job.key), sha256(folder / WEIGHTS))
        if tested is not None and event.seconds is not None:
            result = FinalResult(
                seed=item.seed,
                config=digest(item.config),
                metrics=event.metrics,
                rates=event.rates or {},
                anytime=event.anytime or [],
                int8=event.int8,
                right=event.right,
                images=tested["count"],
                opened=event.opened,
                seconds=event.seconds,
                ended=event.ended,
            )
            result.write(folder / RESULT)
            self._storage.publish(f"{item.job.folder}/{RESULT}")

    def _first_seed(self, search: str) -> int:
        return self._studies.searches[search].sweep.verify.first_seed

    def _final_run(self, part: str, search: str, trial: int, config: TrainConfig, seed: int) -> FinalRun:
        save_every = self._sweep.checkpoint.seconds
        return final_run(part, search, trial, config, seed, self._folder, self._storage, self._token, save_every)

    def _final_config(self, config: TrainConfig) -> TrainConfig:
        return with_values(config, {"dataset.train_on": self._sweep.verify.train_on})


def recorded(state: SweepState, item: FinalRun) -> Recorded | None:
    """Return the event that a sweep's journal has of a run, None before it has one."""
    search = state.searches.get(item.search)
    if search is None or item.part not in (VERIFIED, RANKED):
        return None
    runs = search.verified if item.part == VERIFIED else search.ranked
    return runs.get(item.trial, {}).get(item.seed)


def run(
    items: list[FinalRun],
    executor: Executor,
    storage: Storage,
    recorded: Callable[[FinalRun], Recorded | None] = lambda _: None,
) -> Iterator[tuple[FinalRun, FinalResult]]:
    """Yield each run with its result, at once where it has been trained already, else as the trainings end.

    What a run leaves is in the driver's copy of the storage then.

    Args:
        items: the runs.
        executor: that trains what is missing.
        storage: what driver and workers share.
        recorded: the journal's event of a run.

    Raises:
        ExternalError: runs have failed; the others have ended.
        Exception: an error that says by itself what has happened, see `failed_runs`.
    """
    missing = []
    for item in items:
        done = stored_result(item, storage, recorded(item))
        if done is None:
            missing.append(item)
        else:
            yield item, done
    failed: list[tuple[FinalRun, Exception]] = []
    for item, result in executor.tasks(train_final, missing):
        if isinstance(result, Exception):
            failed.append((item, result))
        else:
            yield item, _ended(item, stored_result(item, storage, recorded(item)))
    failed_runs.require_none(failed, storage)


def _ended(item: FinalRun, result: FinalResult | None) -> FinalResult:
    """Return the result of a run that has ended.

    Raises:
        ValueError: it has not.
    """
    if result is None:
        raise ValueError(f"{item.job.key} has not been trained yet")
    return result


def test_of(ledger: Path, purpose: str, weights: str) -> dict[str, Any] | None:
    """Return the ledger's line of a test of some weights; None where it has none.

    Lines of earlier versions that name no weights are taken by their purpose.
    """
    text = ledger.read_text(encoding="utf-8", errors="replace") if ledger.exists() else ""
    for line in text.splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
            if entry["purpose"] == purpose and entry.get("weights") in (weights, None):
                return entry
        except (ValueError, TypeError, KeyError):
            continue
    return None


def _merge_ledger(other: Path, ledger: Path) -> None:
    """Append to a ledger the lines of another one that it lacks; that may be itself, or be missing."""
    if other == ledger or not other.exists():
        return
    known = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    for line in other.read_text(encoding="utf-8").splitlines():
        if line not in known:
            append(ledger, f"{line}\n")
