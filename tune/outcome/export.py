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
from supersnn import checkpoint
from supersnn.checking import tolerance
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse, read_yaml, with_values
from supersnn.data import TrainingData, training_data
from supersnn.errors import UserError, nearest
from supersnn.files import DamagedFile, sha256, write_atomically
from supersnn.operations import AC_PJ, MAC_PJ
from supersnn.records.events import TeacherRefitted
from supersnn.records.metrics import INFERENCE, SYNAPTIC_OPS, VAL_ACCURACY
from supersnn.records.snapshot import current_state
from supersnn.records.state import SweepState, TrialRecord
from tune.description.arms import resolve
from tune.description.fixed import fixed_digest
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.outcome import export_folder
from tune.outcome.final_result import FinalResult
from tune.outcome.final_runs import RETRAINED, VERIFIED, final_run, run, test_of
from tune.outcome.final_training import RESULT, WEIGHTS, FinalRun, stored_result, test_purpose
from tune.search.studies import split_key
from tune.store import Store, SweepFolder

TABLE = "front.csv"


def median_seed(results: Sequence[FinalResult]) -> int:
    """Return the seed whose validation accuracy is the median (the lower of two; the smaller seed of equals)."""
    ordered = sorted(results, key=lambda result: (result.val, result.seed))
    return ordered[(len(ordered) - 1) // 2].seed


class Exporter:
    """Writes export folders of one sweep; its state is read from its folder unless the driver has it already."""

    def __init__(self, folder: SweepFolder, store: Store, state: SweepState | None = None) -> None:
        self._folder, self._store = folder, store
        self.sweep = parse(SweepConfig, read_yaml(folder.config), str(folder.config))
        self._state = state or current_state(folder.snapshot, folder.journal, self.sweep.search.constraints)[0]
        if self._state.config not in (None, fixed_digest(self.sweep)):
            raise DamagedFile(f"{folder.config}: not the sweep's configuration: `supersnn sweep FILE` writes it again")
        self._arms = resolve(self.sweep, str(folder.config))
        self._data: dict[DatasetConfig, TrainingData] = {}

    def verified_arms(self) -> list[str]:
        """Return the arms with a verified winner, in the order of the sweep file."""
        arms = self._state.searches
        return [name for name in self.sweep.arms if name in arms and arms[name].winner and arms[name].final_runs()]

    def best_arm(self) -> str:
        """Return the arm whose winner has the best mean validation accuracy over its fresh seeds.

        Where those trainings saw the validation images, the search's own value decides.

        Raises:
            UserError: nothing is verified yet.
        """
        best = self._state.best_search(by_search=self.sweep.verify.train_on != "train")
        if best is None:
            raise UserError(f"sweep {self.sweep.name!r}: no arm has a verified winner yet{self._damage()}")
        return best.arm

    def _damage(self) -> str:
        """Return what the sweep's journal lacks, and how to go on, as the end of an error; empty for a whole one."""
        journal = self._folder.journal
        if not journal.exists():
            return f"; {journal} is missing: restore it, or run the sweep"
        if self._state.faults:
            return f"; {journal} is damaged: restore it, or continue the sweep, which makes up for what it can"
        return ""

    def arm(self, arm: str, to: Path) -> dict[str, Any]:
        """Write an arm's verified winner; return its metrics.

        Raises:
            UserError: the arm has no verified winner.
        """
        verified = self.verified_arms()
        winner = self._state.searches[arm].winner if arm in verified else None
        if winner is None:
            known = ", ".join(verified) or "none yet"
            hint = nearest(arm, verified)
            raise UserError(f"--arm {arm}: no arm with a verified winner{hint}; arms with one: {known}")
        return self.trial(arm, winner.trial, to)

    def trial(self, arm: str, number: int, to: Path) -> dict[str, Any]:
        """Write a trial: its verified training of median validation accuracy, else that of the search, trained again.

        Returns:
            the metrics; where it is not verified, `reproduced` is whether retraining gave its recorded accuracy.

        Raises:
            UserError: there is no such trial, or it did not run to its end.
        """
        record = self._state.trial(arm, number)
        if record is None:
            known = ", ".join(name for name, one in self._state.searches.items() if one.trials)
            raise UserError(f"{arm}/{number}: no such trial; arms with trials: {known or 'none yet'}")
        config = self._arms[arm].config(record.params)
        final = with_values(config, {"dataset.train_on": self.sweep.verify.train_on})
        if results := self._results(arm, number, final):
            return self._write(to, arm, record, final, VERIFIED, results)
        if record.end != "finished":
            raise UserError(f"{arm}/{number}: {record.end or 'still running'}: only a finished trial can be exported")
        return self._write(to, arm, record, config, RETRAINED, [self._retrain(arm, number, config)])

    def front(self, to: Path) -> list[dict[str, Any]]:
        """Write each trial on the front of validation accuracy and synaptic operations, and the table `front.csv`.

        The front is that of all finished trials within the constraints, each by the last epoch of its first seed.

        Returns:
            the table's rows, the cheapest first.

        Raises:
            UserError: no such trial has finished.
        """
        done = [(key, trial.first_seed) for key, trial in self._state.trials() if trial.eligible and trial.first_seed]
        if not done:
            raise UserError(f"sweep {self.sweep.name!r}: no trial within the constraints has finished yet")
        costs, accuracies = (
            np.array([metrics.get(metric.key) for _, metrics in done], dtype=float)
            for metric in (SYNAPTIC_OPS, VAL_ACCURACY)
        )
        on = front(costs, accuracies)
        members = [done[k] for k in np.argsort(costs, kind="stable") if on[k]]
        rows = []
        for (arm, number), searched in members:
            metrics = self.trial(arm, number, to / f"{arm}-{number}")
            rows.append(
                {
                    "export": f"{arm}-{number}",
                    "arm": arm,
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

    def _results(self, arm: str, number: int, config: TrainConfig) -> list[FinalResult]:
        """Return the results of a trial's verification, by seed: those that the journal has, as it has them.

        Results that the journal does not have yet are left out while a driver may be about to record them.

        Raises:
            DamagedFile: a result is missing, not what the journal has, or not in the journal of a sweep that has ended.
        """
        events = self._state.searches[arm].verified.get(number, {})
        folder = self._folder.path / VERIFIED / arm / str(number)
        unknown = [path for path in sorted(folder.glob(f"*/{RESULT}")) if path.parent.name not in map(str, events)]
        if unknown and self._state.ended is not None:
            raise DamagedFile(
                f"{unknown[0]}: the journal has no such result: continue the sweep, or move the file away"
            )
        results = []
        for seed in sorted(events):
            item = self._final_run(VERIFIED, arm, number, config, seed)
            result = stored_result(item, self._store.storage, events[seed])
            if result is None:
                raise DamagedFile(
                    f"{folder / str(seed) / RESULT}: missing, but the journal has this result: "
                    "restore the file, or continue the sweep, which replaces it"
                )
            results.append(result)
        return results

    def _retrain(self, arm: str, number: int, config: TrainConfig) -> FinalResult:
        item = self._final_run(RETRAINED, arm, number, config, self.sweep.seed)
        ((_, result),) = run([item], LocalExecutor(), self._store.storage)
        return result

    def _final_run(self, part: str, arm: str, number: int, config: TrainConfig, seed: int) -> FinalRun:
        storage = self._store.storage
        token = (storage.read_text(storage.name(self._folder.owner)) or "").strip()
        return final_run(part, arm, number, config, seed, self._folder, storage, token)

    def _weights(self, part: str, arm: str, number: int, seed: int) -> Mapping[str, Tensor]:
        """Return the weights of a final run.

        Raises:
            DamagedFile: they are missing, or not the ones that were tested.
        """
        path, ledger = self._folder.path / part / arm / str(number) / str(seed) / WEIGHTS, self._folder.ledger
        if not path.exists():
            raise DamagedFile(f"{path}: missing; restore it, or move the whole folder away and continue the sweep")
        if part == VERIFIED and test_of(ledger, test_purpose(f"{arm}/{number}/{seed}"), sha256(path)) is None:
            raise DamagedFile(f"{path}: not the weights that were tested: {ledger} has no test of these")
        return checkpoint.load(path)[0]

    def _write(
        self,
        to: Path,
        arm: str,
        record: TrialRecord,
        config: TrainConfig,
        part: str,
        results: Sequence[FinalResult],
    ) -> dict[str, Any]:
        seed = median_seed(results)
        config = with_values(config, {"seed": seed})
        weights = self._weights(part, arm, record.number, seed)
        data = self._images(config.dataset)
        session = self._state.drivers[-1] if self._state.drivers else None
        metrics = {
            "sweep": self.sweep.name,
            "arm": arm,
            "trial": record.number,
            "trials": len(self._state.searches[arm].trials),
            **self._figures(arm, record, results, seed),
            "tolerance": tolerance(min(len(data.validation), *(result.images for result in results))),
            "split": data.fingerprint,
            "teacher": self._teacher(config),
            "energy_constants_pj": {"mac": MAC_PJ, "ac": AC_PJ},
            "code": session.code if session is not None else None,
            "versions": session.versions if session is not None else {},
        }
        export_folder.write(to, config, weights, data, metrics)
        return metrics

    def _images(self, config: DatasetConfig) -> TrainingData:
        if config not in self._data:
            self._data[config] = training_data(config)
        return self._data[config]

    def _figures(self, arm: str, record: TrialRecord, results: Sequence[FinalResult], seed: int) -> dict[str, Any]:
        """Return what was measured: of the exported seed, and over all seeds."""
        chosen = next(result for result in results if result.seed == seed)
        tests = [result.test for result in results if result.test is not None]
        unseen = self.sweep.verify.train_on == "train" or not tests
        val_mean = statistics.fmean(result.val for result in results)
        interval = [float(end) for end in t_interval(tests)] if len(tests) > 1 else None
        searched = (record.first_seed or {}).get(VAL_ACCURACY.key)
        return {
            "search_value": record.value,
            "rank_value": self._rank_value(arm, record.number),
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

    def _rank_value(self, arm: str, number: int) -> float | None:
        """Return the mean of a winner's ranking, None where it was not ranked."""
        record = self._state.searches[arm]
        if record.winner is None or record.winner.trial != number:
            return None
        values = [run.value for run in record.ranked.get(number, {}).values() if run.value is not None]
        return statistics.fmean(values) if values else None

    def _teacher(self, config: TrainConfig) -> dict[str, Any] | None:
        """Return what the teacher cost: the refitted one where the training is a final one on more images."""
        name = config.teacher.name
        if name is None:
            return None
        refitted = self._state.teacher_named(name, refitted=True) if config.dataset.train_on != "train" else None
        teacher = refitted or self._state.teacher_named(name)
        if teacher is None:
            raise UserError(f"{self._folder.journal}: no event of the teacher {name!r}")
        facts = teacher.model_dump(
            include={"name", "family", "digest", "parameters", "val_accuracy", "epochs", "seconds"}
        )
        computed = refitted.bank_seconds if isinstance(refitted, TeacherRefitted) else self._state.cache_seconds(name)
        return facts | {"bank_seconds": computed}


def parse_trial(text: str) -> tuple[str, int]:
    """Return arm and number of ``ARM/N``.

    Raises:
        UserError: it is something else.
    """
    try:
        return split_key(text)
    except ValueError:
        raise UserError(f"--trial {text}: expected ARM/N, as direct/3") from None
