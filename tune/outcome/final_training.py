"""One final run in a worker: trained to the end, tested once if that is asked for, its result and weights stored."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

from supersnn import checkpoint
from supersnn.anytime import anytime, rows
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.digests import digest
from supersnn.errors import shortened
from supersnn.evaluation import evaluate
from supersnn.export_formats import int8_format
from supersnn.files import DamagedFile, sha256
from supersnn.measurement import measure
from supersnn.nested import flatten
from supersnn.networks.build import build
from supersnn.neurobench import neurobench
from supersnn.records.events import WinnerVerified
from supersnn.records.metrics import VAL_ACCURACY, int8_metrics
from supersnn.records.packed import packed
from supersnn.test_set import open_test, opened_at
from tune.execution.checkpoints import checkpoint_path
from tune.execution.progress import advanced
from tune.execution.trial import TrialRunner, check_owner
from tune.outcome.final_result import RETRAIN, FinalResult, Recorded
from tune.search.messages import CHECKPOINTS, Job
from tune.storage import Storage, storage_at

RESULT, WEIGHTS = "result.json", "student.safetensors"
NO_TRAINING = ("plugins", "target", "export.")
"""Prefixes of the keys that no training depends on."""


@dataclass(frozen=True)
class FinalRun:
    """One training of a trial with another seed.

    Attributes:
        part: of the sweep's folder that it is stored in, see `final_runs`.
        search, trial, seed: what is trained; the search by its name.
        job: the training.
        ledger: name of the ledger of test openings in the job's storage, None where the test images stay closed. It is
            the sweep's own, or where nodes do not see that, one beside the result, whose lines the driver merges.
        keep: whether its weights are stored. Those that are tested must be: the ledger names their file.
    """

    part: str
    search: str
    trial: int
    seed: int
    job: Job
    ledger: str | None
    keep: bool

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"the final run {self.search}/{self.trial} with seed {self.seed}"

    @property
    def config(self) -> TrainConfig:
        """What is trained."""
        return parse(TrainConfig, self.job.config, self.job.key)

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
    config = item.config
    reports = []
    for report in runner.run(item.job):
        reports.append(report)
        advanced()
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
        kept, purpose = sha256(storage.root / folder / WEIGHTS), test_purpose(item.job.key)
        ledger = storage.fetch(item.ledger)
        images, part = open_test(config.dataset, ledger, purpose, runner.device, kept), "test"
        opened = opened_at(ledger, purpose, kept)
        storage.publish(item.ledger)
    measured = measure(network, images, data)
    val = reports[-1].metrics.get(VAL_ACCURACY.key)
    if val is None:
        val = evaluate(network, data.validation, data.mean, data.std).accuracy
    int8 = None
    if config.export.int8 and item.keep:
        int8 = int8_format.compared(network, images, data.shape, data.mean, data.std)
    metrics = measured.metrics("test" if part == "test" else "val") | {VAL_ACCURACY.key: val}
    metrics |= neurobench(network, images, data.mean, data.std) | int8_metrics(int8)
    result = FinalResult(
        seed=item.seed,
        config=digest(config),
        metrics={key: value if math.isfinite(value) else None for key, value in metrics.items()},
        rates=measured.evaluation.rates,
        images=measured.evaluation.images,
        opened=opened,
        seconds=sum(epoch["time/epoch_s"] for epoch in meta["history"]),
        ended=reports[-1].ended or "finished",
        anytime=rows(anytime(network, images, data.shape, data.mean, data.std)),
        int8=int8,
        right=packed(measured.evaluation.right) if part == "test" else None,
    )
    result.write(storage.root / folder / RESULT)
    storage.publish(f"{folder}/{RESULT}")
    storage.remove(folder, CHECKPOINTS)
    storage.evict(folder)
    return result


def test_purpose(key: str) -> str:
    """Return what the test images are opened for by the run ``ARM/N/SEED``, as the ledger has it."""
    return f"verify {key}"


def stored_result(item: FinalRun, storage: Storage, recorded: Recorded | None = None) -> FinalResult | None:
    """Return the result of a run that has ended, None before; what belongs to it is fetched with it.

    A result is that of its training: it has the digest of the configuration and the seed, and where the journal has an
    event of the run, the same figures as that. Results of versions that stored no digest are taken where the journal's
    event has the figures, and for a tested run the configuration. Without an event nothing says what they are of: one
    that is tested is refused, because the test images were opened for it, and another one is trained again.

    Args:
        item: the run.
        storage: what driver and workers share.
        recorded: the journal's event of the run, if it has one and the caller has the journal.

    Raises:
        DamagedFile: the file is damaged, the result of another training, or not the one that the journal has.
    """
    folder = item.job.folder
    path = storage.root / folder / RESULT
    names = [f"{folder}/{RESULT}", *([f"{folder}/{WEIGHTS}"] if item.keep else []), *filter(None, [item.ledger])]
    if not all((storage.root / name).exists() for name in names) and storage.fetch(names[0]).exists():
        for name in names[1:]:
            storage.fetch(name)
    if not path.exists():
        return None
    result = FinalResult.read(path)
    if result.seed != item.seed or result.config not in (None, digest(item.config)):
        raise DamagedFile(f"{path}: the result of another training than that of {item.job.key}; {RETRAIN}")
    if result.config is None and recorded is None:
        if item.ledger is None:
            return None
        raise DamagedFile(f"{path}: it does not say which training it is of, nor does the journal; {RETRAIN}")
    if recorded is not None:
        _require_recorded(item, result, recorded, path)
    return result


def _require_recorded(item: FinalRun, result: FinalResult, recorded: Recorded, path: Path) -> None:
    """Compare a result with the journal's event of its run.

    Raises:
        DamagedFile: a figure differs, or the event is of another configuration.
    """
    if (difference := result.difference(recorded)) is not None:
        raise DamagedFile(f"{path}: not what was measured: {shortened(difference, 200)}; restore the file")
    before = recorded.config if isinstance(recorded, WinnerVerified) else {}
    now = flatten(item.config)
    changed = [
        key for key, value in before.items() if key in now and now[key] != value and not key.startswith(NO_TRAINING)
    ]
    if changed:
        raise DamagedFile(
            f"{path}: the journal has it with {changed[0]}: {before[changed[0]]!r}, where {item.job.key} has "
            f"{now[changed[0]]!r}; give the sweep another name"
        )


@functools.cache
def _runner() -> TrialRunner:
    """Return the process's one runner, so that the images are loaded once for all its runs."""
    return TrialRunner()
