"""Trainings that a comparison of arms is made of: what each one is, and their results, run or looked up.

Each training is one line in a folder's `results.jsonl` when it has ended, so that the same command continues from
there. One process at a time works in a folder.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.common import progress
from benchmarks.evidence_file import EvidenceFile, read_evidence
from supersnn.checkpoint import student_weights
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse, with_values
from supersnn.data import TrainingData, training_data
from supersnn.digests import digest
from supersnn.evaluation import evaluate
from supersnn.networks.build import build
from supersnn.teacher_sources import teacher_source_for
from supersnn.teachers import TeacherStore
from supersnn.test_set import open_test
from supersnn.training import train

IMAGES, EPOCHS, TEACHER_EPOCHS = 5000, 12, 30
QUICK = {"images": 200, "epochs": 1}
"""Sizes too small for a valid result, to test that a comparison works."""
TEACHERS = {"homogeneous": "resnet20", "heterogeneous": "vgg8"}
AUGMENT = {"fashion-mnist": {"crop": 2, "flip": True}}
"""By data set; all others use the usual augmentation of CIFAR."""
TUNED_BY = (900, 901)
"""The seeds for tuning; no final training has them."""
PROCESSES = 2
RESULTS = "results.jsonl"

Values = dict[str, Any]
"""Values by dotted keys of a training."""
Result = dict[str, Any]
"""What is kept of a training: what it was, accuracies as fractions, spike rate, end, seconds."""
Run = Callable[[Sequence["Training"]], list[Result]]
"""Returns the results of trainings, in their order."""


@dataclass(frozen=True)
class Training:
    """One training, of an arm and a seed; the test images are opened only where it is `final`.

    `sizes` are `images` (of which a fifth is for validation) and `epochs`, where they are not the usual ones.
    """

    data: str
    arm: str
    values: Values
    seed: int
    final: bool
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its unique digest; the arm's name is left out, so that arms with equal trainings share them."""
        sizes = [dict(self.sizes)] if self.sizes else []
        return digest(self.data, self.values, self.seed, self.final, *sizes)

    def config(self) -> TrainConfig:
        """Return the training's complete configuration."""
        epochs = self.sizes.get("epochs", EPOCHS)
        plain = {
            "dataset": {
                "name": self.data,
                "images": self.sizes.get("images", IMAGES),
                "validation": 0.2,
                "augment": {**AUGMENT.get(self.data, {"crop": 4, "flip": True}), "views": epochs},
            },
            "student": {"architecture": "resnet8", "time_steps": 2, "stem_stride": 2},
            "teacher": {"epochs": TEACHER_EPOCHS},
            "train": {"epochs": epochs, "batch_size": 100},
            "seed": self.seed,
        }
        return with_values(parse(TrainConfig, plain, "training"), self.values)


class Recorded:
    """Looks trainings up in evidence, where `Runs` would train."""

    def __init__(self, lines: Iterable[Result]) -> None:
        self.done = {line["key"]: line for line in lines if "key" in line}

    def __call__(self, trainings: Sequence[Training]) -> list[Result]:
        """Return the result of each training.

        Raises:
            MissingTraining: the evidence lacks one.
        """
        for training in trainings:
            if training.key not in self.done:
                raise MissingTraining(f"{training.data}: {training.arm}, seed {training.seed}, has no line")
        return [self.done[training.key] for training in trainings]

    def data_sets(self) -> list[str]:
        """Return the data sets, in order of appearance."""
        return list(dict.fromkeys(result["data"] for result in self.done.values()))


class MissingTraining(LookupError):
    """A training that evidence lacks."""


class Runs:
    """The finished trainings of a folder, and a process pool for more.

    Raises:
        SystemExit: another process works in the folder.
    """

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder, self._pool = folder, pool
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise SystemExit(f"{folder}: in use by another process; wait for its end, or use another folder") from error
        path = folder / RESULTS
        self.done = Recorded(read_evidence(path)).done
        self._journal = EvidenceFile(path)

    def __call__(self, trainings: Sequence[Training]) -> list[Result]:
        """Return the result of each training, after running those that are missing."""
        missing = list({t.key: t for t in trainings if t.key not in self.done}.values())
        tasks = [(training, self._folder) for training in missing]
        for number, result in enumerate(self._pool.imap_unordered(train_one, tasks), start=1):
            self._journal.append("training", **result)
            self.done[result["key"]] = result
            progress(f"{number}/{len(missing)} {result['data']} {result['arm']}: {result['val']:.3f}")
        return [self.done[training.key] for training in trainings]

    def teach(self, trainings: Sequence[Training]) -> list[dict[str, Any]]:
        """Train or load the teachers of some trainings, and return what each one is."""
        return self._pool.map(teach, [(training, self._folder) for training in trainings], chunksize=1)

    def note(self, event: str, **fields: Any) -> None:
        """Keep something else than a training beside the results."""
        self._journal.append(event, **fields)

    def close(self) -> None:
        """Close the file of results, and leave the folder to others."""
        self._journal.close()
        self._lock.release()


def train_one(task: tuple[Training, Path]) -> Result:
    """Train, in a worker; a final training's student is tested. Accuracies are fractions, a failed student's is 0."""
    training, folder = task
    started = time.process_time()
    config = training.config()
    data, accuracies = _images(config.dataset), {}
    *_, last = train(config, data, teacher_source_for(config, data, folder / "store"))
    if training.final:
        network = build(config.student, config.neuron, data.shape, len(data.classes))
        network.load_state_dict(student_weights(last.snapshot()[0]))
        test = open_test(config.dataset, folder / "test-ledger.jsonl", f"{training.arm} seed {training.seed}")
        accuracies["test"] = evaluate(network, test, data.mean, data.std).accuracy
    return {
        "key": training.key,
        **asdict(training),
        "val": last.metrics.get("val/accuracy", 0.0) if last.ended == "finished" else 0.0,
        **accuracies,
        "spike_rate": last.metrics.get("spikes/rate"),
        "ended": last.ended,
        "seconds": time.process_time() - started,
    }


@cache
def _images(config: DatasetConfig) -> TrainingData:
    return training_data(config)


def teach(task: tuple[Training, Path]) -> dict[str, Any]:
    """Train or load the teacher of a training, in a worker; return its name, accuracy, parameters and seconds."""
    training, folder = task
    config = training.config()
    teacher = TeacherStore(folder / "store" / "teachers").get(config, _images(config.dataset))
    return {
        "name": config.teacher.name,
        "val": teacher.val_accuracy,
        "parameters": teacher.parameters,
        "seconds": teacher.seconds,
    }


def best_of(run: Run, options: Sequence[Sequence[Training]]) -> tuple[int, float]:
    """Return which option's trainings have the best mean validation accuracy (the first of equals), and the latter."""
    results = iter(run([training for trainings in options for training in trainings]))
    means = [statistics.fmean(next(results)["val"] for _ in trainings) for trainings in options]
    best = max(range(len(means)), key=means.__getitem__)
    return best, means[best]
