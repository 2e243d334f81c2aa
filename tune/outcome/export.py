"""A sweep becomes export folders: an arm's verified winner, any trial, or the front of accuracy and operations.

Everything is read from the sweep's folder (journal, `verified.json`, the trainings after the search), so that a sweep
may be running meanwhile.
"""

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.frontier import front
from analysis.statistics import t_interval
from supersnn import checkpoint
from supersnn.checking import tolerance
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse, read_yaml, with_values
from supersnn.data import TrainingData, training_data
from supersnn.errors import UserError, nearest
from supersnn.files import write_atomically
from supersnn.operations import AC_PJ, MAC_PJ
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.journal import read
from tune.outcome import export_folder
from tune.outcome.final_runs import RESULT, RETRAINED, VERIFIED, WEIGHTS, read_verified, retraining, run
from tune.outcome.searched import searched
from tune.search.studies import split_key
from tune.store import Store, SweepFolder

TABLE = "front.csv"


def median_seed(results: Sequence[Mapping[str, Any]]) -> int:
    """Return the seed whose validation accuracy is the median (the lower of two; the smaller seed of equals)."""
    ordered = sorted(results, key=lambda result: (result["val"], result["seed"]))
    return int(ordered[(len(ordered) - 1) // 2]["seed"])


class Exporter:
    """Writes export folders of one sweep."""

    def __init__(self, folder: SweepFolder, store: Store) -> None:
        self._folder, self._store = folder, store
        self.sweep = parse(SweepConfig, read_yaml(folder.config), str(folder.config))
        self._events = [event for event, _ in read(folder.journal)]
        self._trials = searched(self._events)
        self._verified = read_verified(folder)
        self._data: dict[DatasetConfig, TrainingData] = {}

    def verified_arms(self) -> list[str]:
        """Return the arms with a verified winner."""
        return list(self._verified)

    def best_arm(self) -> str:
        """Return the arm whose winner has the best mean validation accuracy over its fresh seeds.

        Where those trainings saw the validation images, the search's own value decides.

        Raises:
            UserError: nothing is verified yet.
        """
        if not self._verified:
            raise UserError(f"sweep {self.sweep.name!r}: no arm has a verified winner yet")
        if self.sweep.verify.train_on == "train":
            return max(self._verified, key=lambda arm: _mean(self._verified[arm]["results"], "val"))
        return max(self._verified, key=lambda arm: float(self._verified[arm]["search_value"]))

    def arm(self, arm: str, to: Path) -> dict[str, Any]:
        """Write an arm's verified winner; return its metrics.

        Raises:
            UserError: the arm has no verified winner.
        """
        if arm not in self._verified:
            known = ", ".join(self._verified) or "none yet"
            raise UserError(f"--arm {arm}: no arm with a verified winner{nearest(arm, self._verified)}; there: {known}")
        return self.trial(arm, self._verified[arm]["trial"], to)

    def trial(self, arm: str, number: int, to: Path) -> dict[str, Any]:
        """Write a trial: its verified training of median validation accuracy, else that of the search, trained again.

        Returns:
            the metrics; where it is not verified, `reproduced` says whether the training came to its recorded value.

        Raises:
            UserError: there is no such trial, or it did not run to its end.
        """
        found = self._trials.get((arm, number))
        if found is None:
            known = ", ".join(dict.fromkeys(name for name, _ in self._trials))
            raise UserError(f"{arm}/{number}: no such trial; arms with trials: {known or 'none yet'}")
        results = self._results(arm, number)
        if results:
            config = with_values(found.config, {"dataset.train_on": self.sweep.verify.train_on})
            return self._write(to, arm, number, config, VERIFIED, results)
        if found.end != "finished":
            raise UserError(f"{arm}/{number}: {found.end or 'still running'}: only a finished trial can be exported")
        return self._write(to, arm, number, found.config, RETRAINED, [self._train_again(arm, number, found.config)])

    def front(self, to: Path) -> list[dict[str, Any]]:
        """Write each trial on the front of validation accuracy and synaptic operations, and the table `front.csv`.

        The front is that of all finished trials of the search, each by the last epoch of its first seed.

        Returns:
            the table's rows, the cheapest first.

        Raises:
            UserError: no trial has finished.
        """
        done = [(key, t) for key, t in self._trials.items() if t.end == "finished" and t.accuracy is not None]
        if not done:
            raise UserError(f"sweep {self.sweep.name!r}: no trial has finished yet")
        costs = np.array([t.synaptic_ops for _, t in done], dtype=float)
        on = front(costs, np.array([t.accuracy for _, t in done], dtype=float))
        members = [done[k] for k in np.argsort(costs, kind="stable") if on[k]]
        rows = []
        for (arm, number), found in members:
            metrics = self.trial(arm, number, to / f"{arm}-{number}")
            rows.append(
                {
                    "export": f"{arm}-{number}",
                    "arm": arm,
                    "trial": number,
                    "search_accuracy": found.accuracy,
                    "search_synaptic_ops": found.synaptic_ops,
                    **{key: metrics[key] for key in ("verified_seeds", "test_mean", "energy_nj", "reproduced")},
                }
            )
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(to / TABLE, table.getvalue())
        return rows

    def _results(self, arm: str, number: int) -> list[dict[str, Any]]:
        """The results of a trial's verifications, by seed."""
        files = (self._folder.path / VERIFIED / arm / str(number)).glob(f"*/{RESULT}")
        return sorted((json.loads(path.read_text(encoding="utf-8")) for path in files), key=lambda r: int(r["seed"]))

    def _train_again(self, arm: str, number: int, config: TrainConfig) -> dict[str, Any]:
        token = self._folder.owner.read_text(encoding="utf-8").strip()
        places = self._folder, self._store.storage, token
        item = retraining(RETRAINED, arm, number, config, self.sweep.seed, *places)
        ((_, result),) = run([item], LocalExecutor(), self._store.storage)
        return result

    def _write(
        self, to: Path, arm: str, number: int, config: TrainConfig, part: str, results: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        seed = median_seed(results)
        config = with_values(config, {"seed": seed})
        weights, _ = checkpoint.load(self._folder.path / part / arm / str(number) / str(seed) / WEIGHTS)
        data = self._images(config.dataset)
        metrics = {
            "sweep": self.sweep.name,
            "arm": arm,
            "trial": number,
            "trials": sum(name == arm for name, _ in self._trials),
            **self._figures(arm, number, results, seed),
            "tolerance": tolerance(min(len(data.validation), *(result["images"] for result in results))),
            "split": data.fingerprint,
            "teacher": self._teacher(config),
            "energy_constants_pj": {"mac": MAC_PJ, "ac": AC_PJ},
            **self._origin(),
        }
        export_folder.write(to, config, weights, data, metrics)
        return metrics

    def _images(self, config: DatasetConfig) -> TrainingData:
        if config not in self._data:
            self._data[config] = training_data(config)
        return self._data[config]

    def _figures(self, arm: str, number: int, results: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """What was measured: of the exported seed, and over all seeds."""
        chosen = next(result for result in results if result["seed"] == seed)
        found = self._trials[arm, number]
        tests = [result["test"] for result in results if result["test"] is not None]
        unseen = self.sweep.verify.train_on == "train" or not tests
        val_mean = _mean(results, "val")
        interval = [float(end) for end in t_interval(tests)] if len(tests) > 1 else None
        return {
            "search_value": found.value,
            "rank_value": self._verified.get(arm, {}).get("rank_value") if self._won(arm, number) else None,
            "seed": seed,
            "val_accuracy": chosen["val"],
            "test_accuracy": chosen["test"],
            "verified_seeds": len(tests),
            "test_mean": statistics.fmean(tests) if tests else None,
            "test_sd": statistics.stdev(tests) if len(tests) > 1 else None,
            "test_interval_95": interval,
            "val_mean": val_mean,
            "shrinkage": found.value - val_mean if tests and unseen and found.value is not None else None,
            "reproduced": None if tests else chosen["val"] == found.accuracy,
            "train_on": self.sweep.verify.train_on if tests else "train",
            "spike_rate": chosen["spike_rate"],
            "rates": chosen["rates"],
            "synaptic_ops": chosen["synaptic_ops"],
            "mac": chosen["mac"],
            "energy_nj": chosen["energy_nj"],
            "seconds": chosen["seconds"],
            "verified": [{key: result[key] for key in ("seed", "val", "test", "ended")} for result in results if tests],
        }

    def _won(self, arm: str, number: int) -> bool:
        return bool(self._verified.get(arm, {}).get("trial") == number)

    def _teacher(self, config: TrainConfig) -> dict[str, Any] | None:
        """The teacher's cost as the journal has it: the one fitted anew where the training is a final one."""
        if config.teacher.name is None:
            return None
        kind = "teacher" if config.dataset.train_on == "train" else "refit"
        keys = ("name", "family", "digest", "parameters", "val_accuracy", "epochs", "seconds")
        told = [event for event in self._events if event["event"] == kind and event["name"] == config.teacher.name]
        banks = [e for e in self._events if e["event"] == "bank" and e["teacher"] == config.teacher.name]
        asking = told[-1].get("bank_seconds", sum(bank["seconds"] for bank in banks))
        return {key: told[-1][key] for key in keys} | {"bank_seconds": asking}

    def _origin(self) -> dict[str, Any]:
        """The code and the libraries of the last driver."""
        drivers = [event for event in self._events if event["event"] == "sweep"]
        return {key: drivers[-1][key] for key in ("code", "versions")}


def parse_trial(text: str) -> tuple[str, int]:
    """Return arm and number of ``ARM/N``.

    Raises:
        UserError: it is something else.
    """
    try:
        return split_key(text)
    except ValueError:
        raise UserError(f"--trial {text}: expected ARM/N, as direct/3") from None


def _mean(results: Iterable[Mapping[str, Any]], key: str) -> float:
    return statistics.fmean(result[key] for result in results)
