"""Runs a sweep from its teachers to its export folders, and continues one from wherever an earlier driver stopped."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.files import write_atomically
from supersnn.nested import flatten
from supersnn.records.contents import OVERALL
from supersnn.records.events import TeacherRefitted, TrialRanked, WinnerChosen, WinnerExported, WinnerVerified
from supersnn.records.state import SweepState
from tune.description.replication import folder_label, labels
from tune.description.searches import PlannedSearch
from tune.execution.executor import Executor
from tune.execution.failed_teachers import require_none
from tune.execution.preparations import Preparation, PreparationFailed, Preparations, Prepared
from tune.execution.prepare import inspect_dataset, lookup, needs, prepare, received, work_of
from tune.execution.teacher_storage import TEACHERS
from tune.notices import Notify, StageStarted, ignore
from tune.outcome.export import Exporter
from tune.outcome.final_result import FinalResult
from tune.outcome.final_runs import Candidate
from tune.outcome.final_training import FinalRun
from tune.search.search import Search
from tune.search.tasks import recorded_splits
from tune.steering import EVERY, Steering
from tune.sweep_driver import SweepDriver


class SweepRunner:
    """Does what is left of a sweep; the driver's record is open for writing."""

    def __init__(
        self, driver: SweepDriver, executor: Executor, notify: Notify = ignore, steering: Steering | None = None
    ) -> None:
        self._driver, self._executor, self._notify = driver, executor, notify
        self._record, self._storage = driver.record, driver.storage
        self._steering = steering or Steering(driver)

    @property
    def _state(self) -> SweepState:
        return self._record.state

    def train(self) -> None:
        """Do all that needs the executor: teachers and their caches, the search, the final runs.

        Requests are taken up all the while; where one leaves more to be done, it begins again.
        """
        self._executor.idle, self._executor.waits = self._idle, self._record.waits
        left, searched = True, -1
        while left:
            self._adopt()
            self._inspect()
            failed = self._search()
            if self._steering.change_waits or self._wait_while_paused():
                continue
            before = self._steering.taken
            if not failed and self._driver.search_left() and searched != before:
                searched = before  # a request as the search ended, or a teacher that may be tried again since
                continue
            self._verify()
            require_none(failed, self._storage)
            self._steering.take_up()
            asked = self._steering.taken > before and (self._steering.change_waits or self._left())
            left = asked or self._driver.add_replicate()

    def _idle(self) -> None:
        """Take up requests while trials or tasks run."""
        self._steering.poll()
        sweep = self._driver.sweep
        self._executor.tune(sweep.resources.stall, sweep.search.max_failures)

    def _adopt(self) -> None:
        """Let changes hold that had to wait until nothing runs."""
        if self._steering.adopt_waiting():
            sweep = self._driver.sweep
            self._executor.adopt(sweep.resources, sweep.search.max_failures)

    def _left(self) -> bool:
        return self._driver.search_left() or self._driver.final_runs.left()

    def _wait_while_paused(self) -> bool:
        """Wait while all that is left of the search is paused; return whether there was anything to wait for."""
        if not self._waits():
            return False
        self._notify(StageStarted("paused"))
        with self._driver.waiting_for_people():
            while self._waits():
                time.sleep(EVERY)
                self._steering.take_up()
        return True

    def _waits(self) -> bool:
        return self._driver.waits() and not self._steering.change_waits

    def export(self) -> None:
        """Write an export folder for each arm on each data set, and that of the best arm once more as `overall`."""
        self._notify(StageStarted("export"))
        folder = self._driver.folder
        exporter = Exporter(folder, self._driver.store, self._state)
        for dataset in labels(self._driver.sweep):
            label = folder_label(self._driver.sweep, dataset)
            if label is not None and dataset == labels(self._driver.sweep)[0]:
                self._move_exports(label)
            seeds = {
                arm: exporter.arm(arm, folder.export(arm, label), dataset)["seed"]
                for arm in exporter.verified_arms(dataset)
            }
            if not seeds:
                continue
            best = exporter.best_arm(dataset)
            exported.copy(folder.export(best, label), folder.export(OVERALL, label))
            for arm, name in [*((arm, arm) for arm in seeds), (best, OVERALL)]:
                self._record.write(
                    WinnerExported(
                        arm=arm,
                        dataset=dataset,
                        replicate=exporter.best_search(arm, dataset).replicate,
                        folder=folder.export(name, label).relative_to(folder.path).as_posix(),
                        seed=seeds[arm],
                        best=best if name == OVERALL else None,
                    )
                )

    def _move_exports(self, label: str) -> None:
        """Move the exports of a sweep that had one data set below that data set's label."""
        for event in self._state.exports.values():
            before, after = self._driver.folder.path / event.folder, self._driver.folder.best / label
            if before.parent == self._driver.folder.best and before.is_dir() and not (after / before.name).exists():
                after.mkdir(exist_ok=True)
                before.rename(after / before.name)

    def _inspect(self) -> None:
        """Split the images. Teachers are prepared beside the trials of the searches that have theirs: `Preparations`.

        Teachers that an earlier driver had are made available to all nodes, should they not be where nodes look now.
        """
        self._notify(StageStarted("images"))
        for digest in {*self._state.teachers, *self._state.refitted}:
            self._storage.get_or_create(f"{TEACHERS}/{digest}", lambda: None)
        for search in self._driver.splits_left():
            self._record.write(inspect_dataset(search, self._executor))

    def _record_teacher(self, prepared: Prepared, gpus: float) -> None:
        """Record a teacher and its cache, which took so many GPUs, unless an earlier driver has."""
        for event in prepared.with_gpus(gpus).events():
            if event.digest not in self._state.teachers and event.digest not in self._state.caches:
                self._record.write(event)

    def _preparations(self, search: Search) -> Preparations:
        """Return the teachers that are left to be prepared during the search, each in a trial's place."""
        return Preparations(
            needs(self._driver.searches, self._storage),
            find=lookup(self._storage, self._executor),
            work=work_of(self._executor, self._notify),
            record=lambda prepared: self._record_teacher(received(prepared, self._storage), search.gpus or 0.0),
            notify=self._notify,
        )

    def _search(self) -> Mapping[Preparation, PreparationFailed]:
        """Run the search; return the teachers that could not be had."""
        self._notify(StageStarted("search"))
        driver = self._driver
        search = Search(driver.studies, self._record, driver.budget, driver.folder.path, self._storage, driver.token)
        driver.studies.claim(driver.sweep_id)
        for taken in driver.studies.warm_start(recorded_splits(driver.store)):
            self._notify(taken)
        search.reconcile()
        search.poll, self._steering.search = self._idle, search
        failed: dict[Preparation, PreparationFailed] = {}
        try:
            if driver.search_left() and not driver.waits():
                self._executor.search(search, preparations := self._preparations(search))
                failed = preparations.failed
                search.tidy()
        finally:
            self._steering.search = None
        if search.halted is not None:
            raise search.halted
        if not failed and not driver.search_left() and (left := driver.teachers_left()):
            for prepared in prepare(left, self._storage, self._executor, self._notify):
                self._record_teacher(prepared, self._executor.gpus)
        return failed

    def _verify(self) -> None:
        """Choose the winners and test them, but of no search that lacks trials because it could not have its teachers.

        With fewer trials than the others it would have another winner now than when a later driver completes it.
        """
        self._notify(StageStarted("verify"))
        final_runs = self._driver.final_runs
        final_runs.leave_out(self._driver.incomplete())
        self._rank()
        winners = final_runs.winners()
        for search, winner in winners.items():
            recorded = self._state.search(search).winner
            if recorded is None or (recorded.trial, recorded.value) != (winner.trial, winner.search_value):
                place = self._driver.searches[search].place
                self._record.write(WinnerChosen(**place, trial=winner.trial, value=winner.search_value))
        self._refit()
        results: dict[str, list[FinalResult]] = {search: [] for search in winners}
        for item, result in final_runs.run(final_runs.verifications(), self._executor):
            results[item.search].append(result)
            if item.seed not in self._state.search(item.search).verified.get(item.trial, {}):
                planned = self._driver.searches[item.search]
                self._record.write(_verified(planned, item, result, self._executor.gpus))
            _write_verified(self._driver.folder.verified, winners, results)

    def _rank(self) -> None:
        """Train the candidates of searches that have several, with seeds that serve for nothing else."""
        final_runs = self._driver.final_runs
        for item, result in final_runs.run(final_runs.rankings(), self._executor):
            if item.seed not in self._state.search(item.search).ranked.get(item.trial, {}):
                place = self._driver.searches[item.search].place
                self._record.write(
                    TrialRanked(
                        **place,
                        trial=item.trial,
                        seed=item.seed,
                        value=result.val,
                        seconds=result.seconds,
                        gpus=self._executor.gpus,
                    )
                )

    def _refit(self) -> None:
        """Train the winners' teachers again where the final runs see more images than the search."""
        refitted = self._driver.final_runs.refitted()
        for prepared in prepare(refitted, self._storage, self._executor, self._notify):
            if prepared.teacher.digest not in self._state.refitted:
                self._record.write(_refitted(prepared.with_gpus(self._executor.gpus)))


def _refitted(prepared: Prepared) -> TeacherRefitted:
    """Return the event of a teacher that was trained again, with its cache."""
    facts, cache = prepared.teacher.model_dump(exclude={"event", "time"}), prepared.cache
    if facts["took"] is not None and cache is not None:
        facts["took"] += cache.took or 0.0
    return TeacherRefitted(**facts, bank_seconds=cache.seconds if cache is not None else 0.0)


def _verified(search: PlannedSearch, item: FinalRun, result: FinalResult, gpus: float) -> WinnerVerified:
    """Return the event of a verification, which took so many GPUs."""
    return WinnerVerified(
        **search.place,
        trial=item.trial,
        seed=item.seed,
        config=flatten(parse(TrainConfig, item.job.config, item.job.key)),
        metrics=result.metrics,
        rates=result.rates,
        anytime=result.anytime,
        int8=result.int8,
        right=result.right,
        seconds=result.seconds,
        opened=result.opened,
        ended=result.ended,
        gpus=gpus,
    )


def _write_verified(path: Path, winners: dict[str, Candidate], results: dict[str, list[FinalResult]]) -> None:
    """Write `verified.json`: the winner of each search with the results of its verification, by seed."""
    searches: dict[str, dict[str, Any]] = {
        search: {
            "trial": winners[search].trial,
            "search_value": winners[search].search_value,
            "rank_value": winners[search].ranked,
            "results": [result.row() for result in sorted(done, key=lambda result: result.seed)],
        }
        for search, done in results.items()
    }
    write_atomically(path, json.dumps({"arms": searches}, indent=1))
