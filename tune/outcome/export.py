"""Export folders of a sweep: an arm's verified winner, any trial, or the front of accuracy and synaptic operations.

Everything is read from the sweep's folder (its record, and the trainings after the search), so that a driver may be
working meanwhile.
"""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from analysis.frontier import front
from analysis.statistics import t_interval
from supersnn import checkpoint, plugins
from supersnn.checking import tolerance
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse, with_values
from supersnn.data import TrainingData, training_data
from supersnn.errors import UserError, nearest, shortened
from supersnn.files import DamagedFile, sha256, write_atomically
from supersnn.operations import AC_PJ, MAC_PJ
from supersnn.plain_yaml import read_yaml
from supersnn.records.events import TeacherRefitted
from supersnn.records.metrics import INFERENCE, SYNAPTIC_OPS, VAL_ACCURACY
from supersnn.records.search_state import SearchRecord
from supersnn.records.searches import split_key
from supersnn.records.snapshot import current_state
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord
from tune.description.arms import resolve
from tune.description.fixed import fixed_digest
from tune.description.replication import labels, replicates_now
from tune.description.searches import PlannedSearch, planned
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.outcome import export_folder
from tune.outcome.final_result import FinalResult
from tune.outcome.final_runs import RETRAINED, VERIFIED, final_run, run, test_of
from tune.outcome.final_training import RESULT, WEIGHTS, FinalRun, stored_result, test_purpose
from tune.store import Store, SweepFolder

TABLE = "front.csv"


def median_seed(results: Sequence[FinalResult]) -> int:
    """Return the seed whose validation accuracy is the median (the lower of two; the smaller seed of equals)."""
    ordered = sorted(results, key=lambda result: (result.val, result.seed))
    return ordered[(len(ordered) - 1) // 2].seed


class Exporter:
    """Writes export folders of one sweep; its state is read from its folder unless the driver has it already.

    `warnings` are lines about the members of a front, and of searches that are left out, each once (`warnings_of`).
    """

    def __init__(self, folder: SweepFolder, store: Store, state: SweepState | None = None) -> None:
        self._folder, self._store = folder, store
        self.sweep = parse(SweepConfig, read_yaml(folder.config), str(folder.config))
        self._state = state or current_state(folder.snapshot, folder.journal, self.sweep.search.constraints)[0]
        if self._state.config not in (None, fixed_digest(self.sweep)):
            raise DamagedFile(f"{folder.config}: not the sweep's configuration: `supersnn sweep FILE` writes it again")
        plugins.activate(self.sweep.plugins)
        self._replicates = replicates_now(self.sweep, self._state)
        self._searches = planned(self.sweep, resolve(self.sweep, str(folder.config)), self._replicates)
        self._data: dict[DatasetConfig, TrainingData] = {}
        self.warnings: dict[str, None] = {}

    def label(self, given: str | None) -> str | None:
        """Return a data set's label as the sweep has it: its only one where none is given.

        Raises:
            UserError: there is no such data set, or there are several and none is given.
        """
        known = labels(self.sweep)
        if given is None and len(known) == 1:
            return known[0]
        if given is None or given not in known:
            names = ", ".join(label or self.sweep.dataset.name for label in known)
            found = "expected one of the sweep's data sets" if given is None else f"no such data set: {given!r}"
            raise UserError(f"--dataset: {found}{nearest(given or '', map(str, known))}; they are: {names}")
        return given

    def verified_arms(self, dataset: str | None = None) -> list[str]:
        """Return the arms with a verified winner on a data set, in the order of the sweep file."""
        return [name for name in self.sweep.arms if self._best(name, dataset) is not None]

    def best_arm(self, dataset: str | None = None) -> str:
        """Return the arm whose winner, the best of its replicates', is the best on a data set; see `best_search`.

        Raises:
            UserError: nothing is verified yet.
        """
        return self.best_search(None, dataset).arm

    def best_search(self, arm: str | None = None, dataset: str | None = None) -> SearchRecord:
        """Return the search of an arm, or of any, whose winner has the best mean validation accuracy over fresh seeds.

        Where those trainings saw the validation images, the search's own value decides.

        Raises:
            UserError: nothing is verified yet.
        """
        best = self._best(arm, dataset)
        if best is None:
            raise UserError(f"sweep {self.sweep.name!r}: no arm has a verified winner yet{self._damage()}")
        return best

    def _best(self, arm: str | None, dataset: str | None) -> SearchRecord | None:
        for search in self._state.searches.values():
            if search.verified and search.winner is None:
                self.warnings[f"{search.name}: the journal has final runs, but no winner: it is left out"] = None
        return self._state.best_search(self.sweep.verify.train_on != "train", dataset, arm)

    def _damage(self) -> str:
        """Return what the sweep's journal lacks, and how to go on, as the end of an error; empty for a whole one."""
        journal = self._folder.journal
        if not journal.exists():
            return f"; {journal} is missing: restore it, or run the sweep"
        if self._state.faults:
            return f"; {journal} is damaged: restore it, or continue the sweep, which makes up for what it can"
        return ""

    def arm(self, arm: str, to: Path, dataset: str | None = None) -> dict[str, Any]:
        """Write an arm's verified winner on a data set, the best of its replicates'; return its metrics.

        Raises:
            UserError: the arm has no verified winner.
        """
        best = self._best(arm, dataset)
        if best is None or best.winner is None:
            verified = self.verified_arms(dataset)
            known = ", ".join(verified) or "none yet"
            hint = nearest(arm, verified)
            raise UserError(f"--arm {arm}: no arm with a verified winner{hint}; arms with one: {known}")
        return self.trial(best.name, best.winner.trial, to)

    def trial(self, search: str, number: int, to: Path) -> dict[str, Any]:
        """Write a trial: its verified training of median validation accuracy, else that of the search, trained again.

        Returns:
            the metrics; where it is not verified, `reproduced` is whether retraining gave its recorded accuracy.

        Raises:
            UserError: there is no such trial, or it did not run to its end.
        """
        record = self._state.trial(search, number)
        if record is None or search not in self._searches:
            names = ", ".join(name for name, one in self._state.searches.items() if one.trials)
            known = shortened(names or "none yet", 300)
            what = "arms" if len(self._searches) == len(self.sweep.arms) else "searches"
            raise UserError(f"{search}/{number}: no such trial; {what} with trials: {known}")
        config = self._searches[search].arm.config(record.params)
        final = with_values(config, {"dataset.train_on": self.sweep.verify.train_on})
        if results := self._results(search, number, final):
            return self._write(to, search, record, final, VERIFIED, results)
        if record.end != "finished":
            raise UserError(
                f"{search}/{number}: {record.end or 'still running'}: only a finished trial can be exported"
            )
        return self._write(to, search, record, config, RETRAINED, [self._retrain(search, number, config)])

    def front(self, to: Path, dataset: str | None = None) -> list[dict[str, Any]]:
        """Write each trial on the front of validation accuracy and synaptic operations, and the table `front.csv`.

        The front is that of all finished trials on a data set within the constraints, each by the last epoch of its
        first seed.

        Returns:
            the table's rows, the cheapest first.

        Raises:
            UserError: no such trial has finished.
        """
        searches = {name for name, search in self._searches.items() if dataset in (None, search.dataset)}
        eligible = ((key, trial) for key, trial in self._state.trials() if key[0] in searches and trial.eligible)
        done = [(key, trial.first_seed) for key, trial in eligible if trial.first_seed]
        if not done:
            raise UserError(f"sweep {self.sweep.name!r}: no trial within the constraints has finished yet")
        costs, accuracies = (
            np.array([metrics.get(metric.key) for _, metrics in done], dtype=float)
            for metric in (SYNAPTIC_OPS, VAL_ACCURACY)
        )
        on = front(costs, accuracies)
        members = [done[k] for k in np.argsort(costs, kind="stable") if on[k]]
        rows = []
        for (search, number), searched in members:
            metrics = self.trial(search, number, to / f"{search}-{number}")
            self.warnings |= dict.fromkeys(warnings_of(metrics))
            rows.append(
                {
                    "export": f"{search}-{number}",
                    "arm": self._searches[search].arm.name,
                    **({"replicate": self._searches[search].replicate} if self._replicates > 1 else {}),
                    "trial": number,
                    "search_accuracy": searched[VAL_ACCURACY.key],
                    "search_synaptic_ops": searched.get(SYNAPTIC_OPS.key),
                    **{key: metrics[key] for key in ("verified_seeds", "test_mean", "energy_nj", "reproduced")},
                }
            )
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(to / TABLE, table.getvalue())
        return rows

    def _results(self, search: str, number: int, config: TrainConfig) -> list[FinalResult]:
        """Return the results of a trial's verification, by seed: those that the journal has, as it has them.

        Results that the journal does not have yet are left out while a driver may be about to record them.

        Raises:
            DamagedFile: a result is missing, not what the journal has, or not in the journal of a sweep that has ended.
        """
        events = self._state.searches[search].verified.get(number, {})
        folder = self._folder.path / VERIFIED / search / str(number)
        unknown = [path for path in sorted(folder.glob(f"*/{RESULT}")) if path.parent.name not in map(str, events)]
        if unknown and self._state.ended is not None:
            raise DamagedFile(
                f"{unknown[0]}: the journal has no such result: continue the sweep, or move the file away"
            )
        results = []
        for seed in sorted(events):
            item = self._final_run(VERIFIED, search, number, config, seed)
            result = stored_result(item, self._store.storage, events[seed])
            if result is None:
                raise DamagedFile(
                    f"{folder / str(seed) / RESULT}: missing, but the journal has this result: "
                    "restore the file, or continue the sweep, which replaces it"
                )
            results.append(result)
        return results

    def _retrain(self, search: str, number: int, config: TrainConfig) -> FinalResult:
        item = self._final_run(RETRAINED, search, number, config, self._searches[search].sweep.seed)
        ((_, result),) = run([item], LocalExecutor(), self._store.storage)
        return result

    def _final_run(self, part: str, search: str, number: int, config: TrainConfig, seed: int) -> FinalRun:
        storage = self._store.storage
        token = (storage.read_text(storage.name(self._folder.owner)) or "").strip()
        save_every = self.sweep.checkpoint.seconds
        return final_run(part, search, number, config, seed, self._folder, storage, token, save_every)

    def _weights(self, part: str, search: str, number: int, seed: int) -> Mapping[str, Tensor]:
        """Return the weights of a final run.

        Raises:
            DamagedFile: they are missing, or not the ones that were tested.
        """
        path, ledger = self._folder.path / part / search / str(number) / str(seed) / WEIGHTS, self._folder.ledger
        if not path.exists():
            raise DamagedFile(f"{path}: missing; restore it, or move the whole folder away and continue the sweep")
        if part == VERIFIED and test_of(ledger, test_purpose(f"{search}/{number}/{seed}"), sha256(path)) is None:
            raise DamagedFile(f"{path}: not the weights that were tested: {ledger} has no test of these")
        return checkpoint.load(path)[0]

    def _write(
        self,
        to: Path,
        search: str,
        record: TrialRecord,
        config: TrainConfig,
        part: str,
        results: Sequence[FinalResult],
    ) -> dict[str, Any]:
        seed = median_seed(results)
        config = with_values(config, {"seed": seed})
        weights = self._weights(part, search, record.number, seed)
        data = self._images(config.dataset)
        session = self._state.drivers[-1] if self._state.drivers else None
        place = self._searches[search]
        metrics = {
            "sweep": self.sweep.name,
            "arm": place.arm.name,
            "trial": record.number,
            "trials": len(self._state.searches[search].trials),
            "replicate": place.replicate,
            "replicates": self._replicates,
            **self._figures(search, record, results, seed),
            "tolerance": tolerance(min(len(data.validation), *(result.images for result in results))),
            "split": data.fingerprint,
            "teacher": self._teacher(config, place),
            "energy_constants_pj": {"mac": MAC_PJ, "ac": AC_PJ},
            "code": session.code if session is not None else None,
            "versions": session.versions if session is not None else {},
        }
        chosen = next(result for result in results if result.seed == seed)
        tested = chosen.int8 if chosen.test is not None else None
        return metrics | export_folder.write(to, config, weights, data, metrics, tested)

    def _images(self, config: DatasetConfig) -> TrainingData:
        if config not in self._data:
            self._data[config] = training_data(config)
        return self._data[config]

    def _figures(self, search: str, record: TrialRecord, results: Sequence[FinalResult], seed: int) -> dict[str, Any]:
        """Return what was measured: of the exported seed, and over all seeds."""
        chosen = next(result for result in results if result.seed == seed)
        tests = [result.test for result in results if result.test is not None]
        unseen = self.sweep.verify.train_on == "train" or not tests
        val_mean = statistics.fmean(result.val for result in results)
        interval = [float(end) for end in t_interval(tests)] if len(tests) > 1 else None
        searched = (record.first_seed or {}).get(VAL_ACCURACY.key)
        return {
            "search_value": record.value,
            "rank_value": self._rank_value(search, record.number),
            "seed": seed,
            "val_accuracy": chosen.val,
            "test_accuracy": chosen.test,
            "verified_seeds": len(tests),
            "test_mean": statistics.fmean(tests) if tests else None,
            "test_sd": statistics.stdev(tests) if len(tests) > 1 else None,
            "test_interval_95": interval,
            "val_mean": val_mean,
            "shrinkage": record.value - val_mean if tests and unseen and record.value is not None else None,
            "reproduced": None if tests else chosen.val == searched,
            "train_on": self.sweep.verify.train_on if tests else "train",
            **{metric.column: chosen.metrics.get(metric.key) for metric in INFERENCE},
            "rates": chosen.rates,
            "seconds": chosen.seconds,
            "verified": [
                {"seed": result.seed, "val": result.val, "test": result.test, "ended": result.ended}
                for result in results
                if tests
            ],
        }

    def _rank_value(self, search: str, number: int) -> float | None:
        """Return the mean of a winner's ranking, None where it was not ranked."""
        record = self._state.searches[search]
        if record.winner is None or record.winner.trial != number:
            return None
        values = [run.value for run in record.ranked.get(number, {}).values() if run.value is not None]
        return statistics.fmean(values) if values else None

    def _teacher(self, config: TrainConfig, search: PlannedSearch) -> dict[str, Any] | None:
        """Return what the teacher cost: the refitted one where the training is a final one on more images."""
        name = config.teacher.name
        if name is None:
            return None
        again = config.dataset.train_on != "train"
        refitted = self._state.teacher_named(name, True, *search.cell) if again else None
        teacher = refitted or self._state.teacher_named(name, False, *search.cell)
        if teacher is None:
            raise UserError(f"{self._folder.journal}: no event of the teacher {name!r}")
        facts = teacher.model_dump(
            include={"name", "family", "digest", "parameters", "val_accuracy", "epochs", "seconds"}
        )
        cached = self._state.cache_seconds(name, *search.cell)
        computed = refitted.bank_seconds if isinstance(refitted, TeacherRefitted) else cached
        return facts | {"bank_seconds": computed}


def warnings_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return what an export's target cannot take, a line for each limit."""
    target = metrics.get("target")
    if target is None:
        return []
    return [f"target {target['title']}: {row['limit']}: {row['found']}" for row in target["exceeded"]]


def parse_trial(text: str) -> tuple[str, int]:
    """Return search and number of ``SEARCH/N``, for an arm's first search ``ARM/N``.

    Raises:
        UserError: it is something else.
    """
    try:
        return split_key(text)
    except ValueError:
        raise UserError(f"{text}: expected ARM/N, as direct/3") from None
