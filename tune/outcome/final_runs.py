"""A winner is trained again with fresh seeds, each tested once, before it is believed.

Of each arm the `verify.top` best trials are candidates. Several are first ranked anew by their mean validation accuracy
over seeds of their own, with the test images closed; the winner is verified with seeds that chose nothing.
"""

import functools
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from supersnn import checkpoint
from supersnn.config import TrainConfig
from supersnn.config_model import merge, with_values
from supersnn.evaluation import evaluate
from supersnn.files import sha256, write_atomically
from supersnn.networks.build import build
from supersnn.operations import count
from supersnn.test_set import append, open_test, opened_at
from tune.description.arms import Arm
from tune.description.sweep import SweepConfig
from tune.execution.executor import Executor
from tune.execution.trial import TrialRunner, check_owner, checkpoint_path
from tune.search.driver import CHECKPOINTS, Job
from tune.search.studies import Studies
from tune.storage import Storage, storage_at
from tune.store import Store, SweepFolder

RESULT, WEIGHTS = "result.json", "student.safetensors"
VERIFIED, RANKED, RETRAINED = "verified", "ranked", "retrained"
"""The sweep's folders of trainings after the search, each with a folder ARM/N/SEED."""
RANKING_SEEDS = 1_000_000
"""How far the seeds that rank lie behind the first one that verifies."""


@dataclass(frozen=True)
class FinalRun:
    """One training of a trial with a seed of its own; without a ledger the test images stay closed.

    `ledger` is a name in the place that the job names: the sweep's own, or where nodes do not see that, one beside the
    training's result, whose lines the driver takes over.

    `keep`: whether its weights are wanted afterwards; those that are tested must be.
    """

    arm: str
    trial: int
    seed: int
    job: Job
    ledger: str | None
    keep: bool

    def __post_init__(self) -> None:
        if self.ledger is not None and not self.keep:
            raise ValueError("weights that are tested are kept: the ledger names their file")


@dataclass(frozen=True)
class Candidate:
    """A trial that may be an arm's winner: what the search found, and the mean of its ranking where there was one."""

    trial: int
    search_value: float
    config: TrainConfig
    ranked: float | None = None


def retraining(
    part: str, arm: str, trial: int, config: TrainConfig, seed: int, folder: SweepFolder, storage: Storage, token: str
) -> FinalRun:
    """Return a trial's training with a seed, to be kept in one of the sweep's parts; `verified` alone are tested."""
    key, sweep = f"{arm}/{trial}/{seed}", storage.name(folder.path)
    job = Job(
        key=key,
        config=with_values(config, {"seed": seed}).model_dump(mode="json"),
        seeds=(seed,),
        folder=f"{sweep}/{part}/{key}",
        sweep=sweep,
        store=storage.address,
        token=token,
    )
    ledger = storage.ledger_for(storage.name(folder.ledger), job.folder) if part == VERIFIED else None
    return FinalRun(arm, trial, seed, job, ledger, keep=part != RANKED)


class FinalRuns:
    """What follows a sweep's search: its candidates, their ranking, the winners and their verifications."""

    def __init__(
        self, sweep: SweepConfig, studies: Studies, folder: SweepFolder, store: Store, token: str = ""
    ) -> None:
        self._sweep, self._studies = sweep, studies
        self._folder, self._storage, self._token = folder, store.storage, token

    def candidates(self) -> dict[str, list[Candidate]]:
        """Return each arm's best trials, the best first; arms without a finished one are left out."""
        top = self._sweep.verify.top
        best = {arm: self._studies.ranking(arm)[:top] for arm in self._sweep.arms}
        return {
            arm: [Candidate(number, value, self._studies.config(arm, number)) for value, number in ranking]
            for arm, ranking in best.items()
            if ranking
        }

    def rankings(self) -> list[FinalRun]:
        """Return the trainings that rank candidates, seed by seed; none where an arm has only one."""
        first = self._sweep.verify.first_seed + RANKING_SEEDS
        several = {arm: candidates for arm, candidates in self.candidates().items() if len(candidates) > 1}
        return [
            self._retraining(RANKED, arm, candidate.trial, candidate.config, seed)
            for seed in range(first, first + self._sweep.verify.rank_seeds)
            for arm, candidates in several.items()
            for candidate in candidates
        ]

    def winners(self) -> dict[str, Candidate]:
        """Return each arm's winner; every ranking has been trained."""
        values: dict[tuple[str, int], list[float]] = {}
        for item in self.rankings():
            values.setdefault((item.arm, item.trial), []).append(stored(item, self._storage)["val"])
        winners = {}
        for arm, candidates in self.candidates().items():
            means = {c.trial: statistics.fmean(values[arm, c.trial]) for c in candidates if (arm, c.trial) in values}
            ranked = [replace(c, ranked=means.get(c.trial)) for c in candidates]
            winners[arm] = max(ranked, key=lambda c: c.search_value if c.ranked is None else c.ranked)
        return winners

    def verifications(self) -> list[FinalRun]:
        """Return every verification, seed by seed, so that arms stay paired if it ends early.

        The same seeds serve every arm: initialisation and data order are then the same, and differences are paired.
        """
        verify, winners = self._sweep.verify, self.winners()
        return [
            self._retraining(VERIFIED, arm, winner.trial, self._final(winner.config), seed)
            for seed in range(verify.first_seed, verify.first_seed + verify.seeds)
            for arm, winner in winners.items()
        ]

    def _retraining(self, part: str, arm: str, trial: int, config: TrainConfig, seed: int) -> FinalRun:
        return retraining(part, arm, trial, config, seed, self._folder, self._storage, self._token)

    def _final(self, config: TrainConfig) -> TrainConfig:
        return with_values(config, {"dataset.train_on": self._sweep.verify.train_on})

    def refitted(self, arms: Mapping[str, Arm]) -> dict[str, Arm]:
        """Return the winners' arms as their final trainings need them where those see more images than the search."""
        if self._sweep.verify.train_on == "train":
            return {}
        final = {"dataset": {"train_on": self._sweep.verify.train_on}}
        teachers = {name: winner.config.teacher.name for name, winner in self.winners().items()}
        return {
            name: replace(arms[name], base=merge(arms[name].base, final), teachers=(teacher,))
            for name, teacher in teachers.items()
            if teacher is not None
        }

    def left(self) -> bool:
        """Say whether a ranking or a verification has not been trained."""
        if any(_result(item, self._storage) is None for item in self.rankings()):
            return True
        return any(_result(item, self._storage) is None for item in self.verifications())

    def run(self, items: list[FinalRun], executor: Executor) -> Iterator[tuple[FinalRun, dict[str, Any]]]:
        """Yield each training with its result; see `run`. Each opening of the test images is in the sweep's ledger."""
        for item, result in run(items, executor, self._storage):
            if item.ledger is not None:
                _take_over(self._storage.root / item.ledger, self._folder.ledger)
            yield item, result


def run(items: list[FinalRun], executor: Executor, storage: Storage) -> Iterator[tuple[FinalRun, dict[str, Any]]]:
    """Yield each training with its result, at once where it is there already, else as the trainings end.

    What a training leaves is in the driver's copy of the place then.

    Raises:
        Exception: what a training ended in.
    """
    missing = []
    for item in items:
        done = _result(item, storage)
        if done is None:
            missing.append(item)
        else:
            yield item, done
    for item, result in executor.tasks(verify_one, missing):
        if isinstance(result, Exception):
            raise result
        yield item, stored(item, storage)


def verify_one(item: FinalRun) -> dict[str, Any]:
    """Train to the end, test once if there is a ledger, and leave result and weights in the training's folder.

    The weights are kept before the test, and the ledger names them: a worker that follows one which was lost while it
    tested goes on under the same line.

    Returns:
        ``seed, val, test, test_top5, test_loss, images, opened, spike_rate, synaptic_ops, mac, energy_nj, seconds,
        rates, ended``; accuracies and rates are fractions, operations are for one image, `seconds` those of the
        training, `opened` when the test images were, in Unix seconds. Where they stay closed, what is of them is None
        and the rest is of the validation images. A loss that is no number is None.
    """
    storage = storage_at(item.job.store)
    if (done := _result(item, storage)) is not None:
        return done
    runner, folder = _runner(), item.job.folder
    config = TrainConfig.model_validate(item.job.config)
    reports = list(runner.run(item.job))
    tensors, meta = checkpoint.load(storage.fetch(checkpoint_path(Path(folder), item.seed).as_posix()))
    weights = checkpoint.student_weights(tensors)
    data = runner.data(config.dataset)
    network = build(config.student, config.neuron, data.shape, len(data.classes)).to(runner.device)
    network.load_state_dict(weights)
    check_owner(storage, item.job.sweep, item.job.token)
    if item.keep:
        checkpoint.save(storage.root / folder / WEIGHTS, weights, {})
        storage.publish(f"{folder}/{WEIGHTS}")
    opened = None
    if item.ledger is not None:
        kept, purpose = sha256(storage.root / folder / WEIGHTS), f"verify {item.job.key}"
        ledger = storage.fetch(item.ledger)
        images = open_test(config.dataset, ledger, purpose, runner.device, kept)
        opened = opened_at(ledger, purpose, kept)
        storage.publish(item.ledger)
    else:
        images = data.validation
    measured = evaluate(network, images, data.mean, data.std)
    operations = count(network, data.shape, measured.density)
    val = reports[-1].metrics.get("val/accuracy")
    tested = opened is not None
    result = {
        "seed": item.seed,
        "val": evaluate(network, data.validation, data.mean, data.std).accuracy if val is None else val,
        "test": measured.accuracy if tested else None,
        "test_top5": measured.top5 if tested else None,
        "test_loss": measured.loss if tested and math.isfinite(measured.loss) else None,
        "images": measured.images,
        "opened": opened,
        "spike_rate": measured.rate,
        "synaptic_ops": operations.synaptic,
        "mac": operations.mac,
        "energy_nj": operations.energy_nj,
        "seconds": sum(epoch["time/epoch_s"] for epoch in meta["history"]),
        "rates": measured.rates,
        "ended": reports[-1].ended,
    }
    write_atomically(storage.root / folder / RESULT, json.dumps(result))
    storage.publish(f"{folder}/{RESULT}")
    storage.remove(folder, CHECKPOINTS)
    storage.evict(folder)
    return result


def read_verified(folder: SweepFolder) -> dict[str, Any]:
    """Return the verified results by arm; nothing before the first one."""
    if not folder.verified.exists():
        return {}
    arms: dict[str, Any] = json.loads(folder.verified.read_text(encoding="utf-8"))["arms"]
    return arms


def _take_over(other: Path, ledger: Path) -> None:
    """Append to a ledger the lines of another one, if that is one and is there, that it lacks."""
    if other == ledger or not other.exists():
        return
    there = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    for line in other.read_text(encoding="utf-8").splitlines():
        if line not in there:
            append(ledger, f"{line}\n")


def stored(item: FinalRun, storage: Storage) -> dict[str, Any]:
    """Return the result of a training that has ended."""
    result = _result(item, storage)
    if result is None:
        raise ValueError(f"{item.job.key} has not been trained yet")
    return result


def _result(item: FinalRun, storage: Storage) -> dict[str, Any] | None:
    """The result of a training that has ended, brought here with what belongs to it."""
    folder = item.job.folder
    path = storage.root / folder / RESULT
    names = [f"{folder}/{RESULT}", *([f"{folder}/{WEIGHTS}"] if item.keep else []), *filter(None, [item.ledger])]
    if not all((storage.root / name).exists() for name in names) and storage.fetch(names[0]).exists():
        for name in names[1:]:
            storage.fetch(name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@functools.cache
def _runner() -> TrialRunner:
    """One runner a worker process, so that the images are loaded once for all its verifications."""
    return TrialRunner()
