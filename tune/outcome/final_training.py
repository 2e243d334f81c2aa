"""One final run in a worker: trained to the end, tested once if that is asked for, its result and weights stored."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

from supersnn import checkpoint
from supersnn.config import TrainConfig
from supersnn.evaluation import evaluate
from supersnn.files import sha256
from supersnn.measurement import measure
from supersnn.networks.build import build
from supersnn.records.metrics import VAL_ACCURACY
from supersnn.test_set import open_test, opened_at
from tune.execution.trial import TrialRunner, check_owner, checkpoint_path
from tune.outcome.final_result import FinalResult
from tune.search.messages import CHECKPOINTS, Job
from tune.storage import Storage, storage_at

RESULT, WEIGHTS = "result.json", "student.safetensors"


@dataclass(frozen=True)
class FinalRun:
    """One training of a trial with another seed.

    Attributes:
        arm, trial, seed: what is trained.
        job: the training.
        ledger: name of the ledger of test openings in the job's storage, None where the test images stay closed. It is
            the sweep's own, or where nodes do not see that, one beside the result, whose lines the driver merges.
        keep: whether its weights are stored. Those that are tested must be: the ledger names their file.
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


def train_final(item: FinalRun) -> FinalResult:
    """Train to the end, test once if there is a ledger, and store result and weights in the run's folder.

    The weights are stored before the test, and the ledger names them: a worker that follows one which was lost while it
    tested continues under the same line.
    """
    storage = storage_at(item.job.store)
    if (done := stored_result(item, storage)) is not None:
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
    opened, images, part = None, data.validation, "val"
    if item.ledger is not None:
        kept, purpose = sha256(storage.root / folder / WEIGHTS), f"verify {item.job.key}"
        ledger = storage.fetch(item.ledger)
        images, part = open_test(config.dataset, ledger, purpose, runner.device, kept), "test"
        opened = opened_at(ledger, purpose, kept)
        storage.publish(item.ledger)
    measured = measure(network, images, data)
    val = reports[-1].metrics.get(VAL_ACCURACY.key)
    if val is None:
        val = evaluate(network, data.validation, data.mean, data.std).accuracy
    metrics = {**measured.metrics("test" if part == "test" else "val"), VAL_ACCURACY.key: val}
    result = FinalResult(
        seed=item.seed,
        metrics={key: value if math.isfinite(value) else None for key, value in metrics.items()},
        rates=measured.evaluation.rates,
        images=measured.evaluation.images,
        opened=opened,
        seconds=sum(epoch["time/epoch_s"] for epoch in meta["history"]),
        ended=reports[-1].ended or "finished",
    )
    result.write(storage.root / folder / RESULT)
    storage.publish(f"{folder}/{RESULT}")
    storage.remove(folder, CHECKPOINTS)
    storage.evict(folder)
    return result


def stored_result(item: FinalRun, storage: Storage) -> FinalResult | None:
    """Return the result of a run that has ended, None before; what belongs to it is fetched with it."""
    folder = item.job.folder
    path = storage.root / folder / RESULT
    names = [f"{folder}/{RESULT}", *([f"{folder}/{WEIGHTS}"] if item.keep else []), *filter(None, [item.ledger])]
    if not all((storage.root / name).exists() for name in names) and storage.fetch(names[0]).exists():
        for name in names[1:]:
            storage.fetch(name)
    return FinalResult.read(path) if path.exists() else None


@functools.cache
def _runner() -> TrialRunner:
    """Return the process's one runner, so that the images are loaded once for all its runs."""
    return TrialRunner()
