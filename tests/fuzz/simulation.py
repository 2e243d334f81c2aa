"""A search whose trainings are simulated: studies in memory, a journal on disk, metrics at once."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage

from supersnn.config import TrainConfig
from supersnn.config_model import parse, with_values
from supersnn.records.events import SweepStarted
from supersnn.records.metrics import OF_MACHINES
from tune.description.arms import Arm
from tune.description.replication import least_replicates
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.search.budget import Budget
from tune.search.messages import Job, Report
from tune.search.search import Search
from tune.search.studies import Studies
from tune.storage import Storage
from tune.store import SweepFolder
from tune.sweep_record import SweepRecord

MOST_TRIALS = {"gp": 3, "grid": 40, "random": 40, "qmc": 40}
"""Trials that are simulated for each arm, by sampler; 14 with the others."""
MOST_EPOCHS = 12


class Database(InMemoryStorage):
    """Optuna's storage in memory with attributes as a database keeps them: as JSON."""

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, json.loads(json.dumps(value)))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, json.loads(json.dumps(value)))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, json.loads(json.dumps(value)))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, json.loads(json.dumps(value)))


def simulate(sweep: SweepConfig, arms: Mapping[str, Arm], seed: int) -> Iterator[str]:
    """Search to the end; yield what does not hold, in words. Exceptions are the code's own.

    The budget is cut to what takes a second. A driver dies once, in the middle.
    """
    most = MOST_TRIALS.get(sweep.search.sampler, 14)
    cut: dict[str, Any] = {"search.hours": None, "search.gpu_hours": None}
    if sweep.search.trials > most:
        cut["search.trials"] = most
    cut["replicates"] = min(least_replicates(sweep), 2)
    cut["search.seeds_per_trial"] = min(sweep.search.seeds_per_trial, 3)
    sweep = with_values(sweep, cut)
    storage, random = Database(), Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        die_after = random.randrange(1, 6)
        yield from _drive(sweep, arms, storage, folder, random, "a", die_after)
        yield from _drive(sweep, arms, storage, folder, random, "b", math.inf)
        studies = Studies(sweep, planned(sweep, arms), storage)
        counts = {name: counts.suggested for name, counts in studies.counts.items()}
        if not studies.full() or studies.under_way():
            yield f"the search ended with {counts} of {sweep.search.trials} trials"
        if sweep.search.fair == "trials" and any(count > sweep.search.trials for count in counts.values()):
            yield f"arms have had {counts} of {sweep.search.trials} trials"
        spent = {name: counts.epochs for name, counts in studies.counts.items()}
        most = (sweep.search.trials + 1) * sweep.trial_epochs()  # the last trial is begun within the budget
        if any(epochs >= most for epochs in spent.values()):
            yield f"arms have had {spent} epochs, which are more than {sweep.search.trials} trials and another one"


def _drive(
    sweep: SweepConfig,
    arms: Mapping[str, Arm],
    storage: BaseStorage,
    folder: Path,
    random: Random,
    token: str,
    die_after: float,
) -> Iterator[str]:
    """Run trials, two at a time, until there is none, or die with two under way."""
    record = SweepRecord(SweepFolder(folder), sweep.search.constraints)
    searches = planned(sweep, arms)
    studies = Studies(sweep, searches, storage)
    budget = Budget(sweep, folder, record.state)
    record.open()
    try:
        record.write(SweepStarted(driver=token))
        search = Search(studies, record, budget, folder, Storage(folder), token)
        search.reconcile()
        running: list[Job] = []
        handed_out = 0
        per_search = max(sweep.search.trials, 4) * (1 if sweep.search.fair == "trials" else sweep.trial_epochs())
        limit = 4 * len(searches) * per_search
        while True:
            while len(running) < 2 and (job := search.next_job()) is not None:
                running.append(job)
                handed_out += 1
                parse(TrainConfig, job.config, job.key)
            if search.halted is not None:
                yield f"the search was halted: {search.halted}"
                return
            if not running or handed_out >= die_after:
                return
            if handed_out > limit:
                yield f"the search does not end: {handed_out} trials"
                return
            _train(search, running.pop(0), sweep, random)
    finally:
        record.close()


def _train(search: Search, job: Job, sweep: SweepConfig, random: Random) -> None:
    """Report a trial's epochs; some trials fail, before or after their first one."""
    total, epochs = sweep.trial_epochs(), sweep.train.epochs
    if random.random() < 0.05:
        search.ended(job.key, "failed:nan")
        return
    wanted = {
        *range(1, MOST_EPOCHS + 1),
        *(epochs * seed for seed in range(1, min(sweep.search.seeds_per_trial, 4) + 1)),
        total,
    }
    level = random.random()
    for epoch in sorted(epoch for epoch in wanted if job.reported < epoch <= total):
        metrics = {
            "val/accuracy": min(1.0, level + 0.01 * random.random() * epoch),
            "val/loss": 2 - level,
            "train/loss": 1 / epoch,
            "spikes/rate": random.random(),
            "ops/synaptic": 1e6 * random.random(),
            "ops/mac": 1e5,
            "energy/nj": 1e3 * random.random(),
            "time/epoch_s": 1.0,
        }
        if epoch % epochs == 0:
            metrics |= {f"mean/{key}": value for key, value in metrics.items() if not key.startswith(OF_MACHINES)}
        if random.random() < 0.02:
            search.ended(job.key, "failed:nan")
            return
        if search.reported(job.key, Report(epoch, metrics, "finished" if epoch == total else None)):
            return
    search.ended(job.key, "failed:no epoch left")
