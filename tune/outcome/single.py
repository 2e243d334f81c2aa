"""The export folder of one training outside any sweep, with the keys that a sweep's exports have."""

from pathlib import Path
from typing import Any

from supersnn import exported
from supersnn.checking import tolerance
from supersnn.checkpoint import student_weights
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.epoch_report import EpochReport
from supersnn.errors import UserError
from supersnn.measurement import measure
from supersnn.neurobench import neurobench
from supersnn.operations import AC_PJ, MAC_PJ
from supersnn.records.metrics import INFERENCE, VAL_ACCURACY
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import TeacherSource
from supersnn.teachers import TeacherStore
from tune.outcome import export_folder
from tune.own_code import own_code
from tune.versions import code_version, versions

UNKNOWN = (
    *("sweep", "arm", "trial", "trials", "replicate", "replicates"),
    *("search_value", "rank_value", "val_mean", "shrinkage", "reproduced"),
    *("test_accuracy", "test_mean", "test_sd", "test_interval_95"),
)
"""The metrics that only a sweep's exports have: None here."""


def export_training(
    to: Path,
    config: TrainConfig,
    last: EpochReport,
    data: TrainingData,
    teacher_source: TeacherSource | None,
    teachers: Path,
) -> dict[str, Any]:
    """Write a training that has ended as an export folder; the test images stay closed.

    Args:
        to: the folder's name.
        config: the training.
        last: its last report; the training has not gone on since.
        data: its images.
        teacher_source: where its teacher outputs came from.
        teachers: the folder of the teacher store.

    Returns:
        the metrics; those of `UNKNOWN` are None.

    Raises:
        UserError: the training failed, or the folder holds something else than an export.
    """
    if last.ended != "finished":
        raise UserError(f"the training ended as {last.ended}: nothing was exported")
    tensors, meta = last.snapshot()
    weights = student_weights(tensors)
    network = exported.network(config, exported.Preprocessing.of(data), weights).to(data.validation.pixels.device)
    measured = measure(network, data.validation, data)
    inference = measured.costs() | neurobench(network, data.validation, data.mean, data.std)
    metrics: dict[str, Any] = {
        **dict.fromkeys(UNKNOWN),
        "seed": config.seed,
        "val_accuracy": last.metrics.get(VAL_ACCURACY.key, measured.evaluation.accuracy),
        "verified_seeds": 0,
        "verified": [],
        "train_on": config.dataset.train_on,
        **{metric.column: inference.get(metric.key) for metric in INFERENCE},
        "rates": measured.evaluation.rates,
        "seconds": sum(epoch["time/epoch_s"] for epoch in meta["history"]),
        "ended": last.ended,
        "tolerance": tolerance(len(data.validation)),
        "split": data.fingerprint,
        "teacher": _teacher(config, data, teacher_source, teachers),
        "energy_constants_pj": {"mac": MAC_PJ, "ac": AC_PJ},
        "code": code_version(own_code(config.plugins, config.import_paths()).identities),
        "versions": versions(),
    }
    return metrics | export_folder.write(to, config, weights, data, metrics)


def _teacher(
    config: TrainConfig, data: TrainingData, teacher_source: TeacherSource | None, teachers: Path
) -> dict[str, Any] | None:
    """Return the teacher, which is in the store, and what it cost."""
    if config.teacher.name is None:
        return None
    teacher = TeacherStore(teachers).get(config, data)
    facts = {key: getattr(teacher, key) for key in ("family", "digest", "parameters", "val_accuracy", "seconds")}
    computed = teacher_source.seconds if isinstance(teacher_source, TeacherCache) else 0.0
    return {"name": config.teacher.name, "epochs": config.teacher.epochs, **facts, "bank_seconds": computed}
