"""Runs a sweep from its teachers to its export folders, and continues one from wherever an earlier driver stopped."""

import json
from pathlib import Path
from typing import Any

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.config_model import flatten, parse
from supersnn.files import write_atomically
from supersnn.records.events import TeacherRefitted, TrialRanked, WinnerChosen, WinnerExported, WinnerVerified
from supersnn.records.state import SweepState
from tune.execution.executor import Executor
from tune.execution.prepare import inspect_dataset, prepare
from tune.execution.teacher_storage import TEACHERS
from tune.notices import Notify, StageStarted, ignore
from tune.outcome.export import Exporter
from tune.outcome.final_result import FinalResult
from tune.outcome.final_runs import Candidate
from tune.outcome.final_training import FinalRun
from tune.search.search import Search
from tune.sweep_driver import SweepDriver


class SweepRunner:
    """Does what is left of a sweep; the driver's record is open for writing."""

    def __init__(self, driver: SweepDriver, executor: Executor, notify: Notify = ignore) -> None:
        self._driver, self._executor, self._notify = driver, executor, notify
        self._record, self._storage = driver.record, driver.storage

    @property
    def _state(self) -> SweepState:
        return self._record.state

    def train(self) -> None:
        """Do all that needs the executor: teachers and their caches, the search, the final runs."""
        self._prepare()
        self._search()
        self._verify()

    def export(self) -> None:
        """Write an export folder for each arm, and that of the best arm once more as `overall`."""
        self._notify(StageStarted("export"))
        folder = self._driver.folder
        exporter = Exporter(folder, self._driver.store, self._state)
        seeds = {arm: exporter.arm(arm, folder.best / arm)["seed"] for arm in exporter.verified_arms()}
        if seeds:
            best = exporter.best_arm()
            exported.copy(folder.best / best, folder.best / "overall")
            for arm, name in [*((arm, arm) for arm in seeds), (best, "overall")]:
                relative = (folder.best / name).relative_to(folder.path).as_posix()
                copied = best if name == "overall" else None
                self._record.write(WinnerExported(arm=arm, folder=relative, seed=seeds[arm], best=copied))

    def _prepare(self) -> None:
        """Split the images, train every teacher and fill its cache before a trial needs them.

        Teachers that an earlier driver had are made available to all nodes, should they not be where nodes look now.
        """
        self._notify(StageStarted("teachers"))
        for digest in {*self._state.teachers, *self._state.refitted}:
            self._storage.get_or_create(f"{TEACHERS}/{digest}", lambda: None)
        if self._state.data is None:
            self._record.write(inspect_dataset(self._driver.arms, self._executor))
        for prepared in prepare(self._driver.arms, self._storage, self._executor, self._notify):
            for event in prepared.events():
                if event.digest not in self._state.teachers and event.digest not in self._state.caches:
                    self._record.write(event)

    def _search(self) -> None:
        self._notify(StageStarted("search"))
        driver, sweep = self._driver, self._driver.sweep
        seeds = tuple(range(sweep.seed, sweep.seed + sweep.search.seeds_per_trial))
        search = Search(
            driver.studies, self._record, driver.budget, driver.folder.path, self._storage, driver.token, seeds
        )
        driver.studies.claim(driver.sweep_id)
        search.reconcile()
        if driver.search_left():
            self._executor.search(search)
        if search.halted is not None:
            raise search.halted

    def _verify(self) -> None:
        self._notify(StageStarted("verify"))
        final_runs = self._driver.final_runs
        self._rank()
        winners = final_runs.winners()
        for arm, winner in winners.items():
            recorded = self._state.search(arm).winner
            if recorded is None or (recorded.trial, recorded.value) != (winner.trial, winner.search_value):
                self._record.write(WinnerChosen(arm=arm, trial=winner.trial, value=winner.search_value))
        self._refit()
        results: dict[str, list[FinalResult]] = {arm: [] for arm in winners}
        for item, result in final_runs.run(final_runs.verifications(), self._executor):
            results[item.arm].append(result)
            if item.seed not in self._state.search(item.arm).verified.get(item.trial, {}):
                self._record.write(_verified(item, result))
            _write_verified(self._driver.folder.verified, winners, results)

    def _rank(self) -> None:
        """Train the candidates of arms that have several, with seeds that serve for nothing else."""
        final_runs = self._driver.final_runs
        for item, result in final_runs.run(final_runs.rankings(), self._executor):
            if item.seed not in self._state.search(item.arm).ranked.get(item.trial, {}):
                self._record.write(
                    TrialRanked(
                        arm=item.arm, trial=item.trial, seed=item.seed, value=result.val, seconds=result.seconds
                    )
                )

    def _refit(self) -> None:
        """Train the winners' teachers again where the final runs see more images than the search."""
        refitted = self._driver.final_runs.refitted(self._driver.arms)
        for prepared in prepare(refitted, self._storage, self._executor, self._notify):
            if prepared.teacher.digest not in self._state.refitted:
                facts = prepared.teacher.model_dump(exclude={"event", "time"})
                seconds = prepared.cache.seconds if prepared.cache is not None else 0.0
                self._record.write(TeacherRefitted(**facts, bank_seconds=seconds))


def _verified(item: FinalRun, result: FinalResult) -> WinnerVerified:
    """Return the event of a verification."""
    return WinnerVerified(
        arm=item.arm,
        trial=item.trial,
        seed=item.seed,
        config=flatten(parse(TrainConfig, item.job.config, item.job.key)),
        metrics=result.metrics,
        rates=result.rates,
        anytime=result.anytime,
        seconds=result.seconds,
        opened=result.opened,
        ended=result.ended,
    )


def _write_verified(path: Path, winners: dict[str, Candidate], results: dict[str, list[FinalResult]]) -> None:
    """Write `verified.json`: each arm's winner with the results of its verification, by seed."""
    arms: dict[str, dict[str, Any]] = {
        arm: {
            "trial": winners[arm].trial,
            "search_value": winners[arm].search_value,
            "rank_value": winners[arm].ranked,
            "results": [result.row() for result in sorted(done, key=lambda result: result.seed)],
        }
        for arm, done in results.items()
    }
    write_atomically(path, json.dumps({"arms": arms}, indent=1))
