"""Every metric once: its key in the journal and in MLflow, its column in tables and JSON, and how it is shown.

To add a metric, add it here and return it where it is measured (`supersnn.measurement` for what
validation and test images give); tables, MLflow, exports and the report take it from here.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

OWN = "own/"
"""The prefix of a metric that is a function of the user's (`supersnn.own_metrics`)."""
MEAN = "mean/"
"""The prefix of a metric that is a mean over the seeds of a trial so far."""


@dataclass(frozen=True)
class Metric:
    """One metric of a training or of its evaluation.

    Attributes:
        key: its name in the journal and in MLflow, as ``spikes/rate``.
        column: its name in tables, `result.json`, `verified.json` and an export's `metrics.json`, as ``spike_rate``.
        title: its name for people.
        unit: ``fraction`` (shown in percent), ``nJ``, ``s``, ``GB``, ``W``, or empty.
        direction: which values are better, None where neither is.
        cost: whether it is a cost of inference, which verified results average and the report sets against accuracy.
        constrainable: whether `search.constraints` may bound it from above.
    """

    key: str
    column: str
    title: str
    unit: Literal["fraction", "nJ", "s", "GB", "W", ""] = ""
    direction: Literal["maximize", "minimize"] | None = None
    cost: bool = False
    constrainable: bool = False


VAL_ACCURACY = Metric("val/accuracy", "val", "validation accuracy", "fraction", "maximize")
TEST_ACCURACY = Metric("test/accuracy", "test", "test accuracy", "fraction", "maximize")
SPIKE_RATE = Metric("spikes/rate", "spike_rate", "firing rate", "", "minimize", cost=True, constrainable=True)
SYNAPTIC_OPS = Metric(
    "ops/synaptic", "synaptic_ops", "synaptic operations an image", "", "minimize", cost=True, constrainable=True
)
ENERGY = Metric("energy/nj", "energy_nj", "energy an image", "nJ", "minimize", cost=True, constrainable=True)
MAC_OPS = Metric("ops/mac", "mac", "multiply-accumulates an image", "", "minimize", constrainable=True)
EFFECTIVE_ACS = Metric(
    "ops/effective_ac", "effective_acs", "effective ACs an image (NeuroBench)", "", "minimize", constrainable=True
)
EFFECTIVE_MACS = Metric(
    "ops/effective_mac", "effective_macs", "effective MACs an image (NeuroBench)", "", "minimize", constrainable=True
)
DENSE_OPS = Metric("ops/dense", "dense_ops", "dense operations an image (NeuroBench)", "", "minimize")
FOOTPRINT = Metric("model/footprint", "footprint", "footprint in bytes (NeuroBench)", "", "minimize")
CONNECTION_SPARSITY = Metric(
    "model/connection_sparsity", "connection_sparsity", "connection sparsity (NeuroBench)", "fraction", "maximize"
)
ACTIVATION_SPARSITY = Metric(
    "spikes/activation_sparsity", "activation_sparsity", "activation sparsity (NeuroBench)", "fraction", "maximize"
)
MEMBRANE_UPDATES = Metric(
    "ops/membrane_updates", "membrane_updates", "membrane updates an image (NeuroBench)", "", "minimize"
)
INT8 = (
    Metric("int8/accuracy", "int8_accuracy", "accuracy with weights of 8 bits", "fraction", "maximize"),
    Metric("int8/spike_rate", "int8_spike_rate", "firing rate with weights of 8 bits", "", "minimize"),
    Metric("int8/synaptic_ops", "int8_synaptic_ops", "synaptic operations with weights of 8 bits", "", "minimize"),
    Metric("int8/energy_nj", "int8_energy_nj", "energy with weights of 8 bits", "nJ", "minimize"),
)
"""What final runs with `export.int8` measure on the images of the run."""
EPOCH_SECONDS = Metric("time/epoch_s", "epoch_s", "time of an epoch", "s", "minimize")
GPU_UTILIZATION = Metric("gpu/utilization", "gpu_utilization", "utilization of the GPU", "fraction")
GPU_MEMORY = Metric("gpu/memory_gb", "gpu_memory_gb", "memory of the GPU that is taken", "GB")
GPU_POWER = Metric("gpu/power_w", "gpu_power_w", "power of the GPU", "W")
OF_MACHINES = ("time/", "gpu/")
"""The prefixes of metrics that are measured of the machine: other values when the same training is repeated."""

METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        VAL_ACCURACY,
        Metric("val/loss", "val_loss", "validation loss", "", "minimize", constrainable=True),
        TEST_ACCURACY,
        Metric("test/top5", "test_top5", "top-5 test accuracy", "fraction", "maximize"),
        Metric("test/loss", "test_loss", "test loss", "", "minimize"),
        SPIKE_RATE,
        SYNAPTIC_OPS,
        MAC_OPS,
        EFFECTIVE_ACS,
        EFFECTIVE_MACS,
        DENSE_OPS,
        FOOTPRINT,
        CONNECTION_SPARSITY,
        ACTIVATION_SPARSITY,
        MEMBRANE_UPDATES,
        ENERGY,
        *INT8,
        Metric("train/loss", "train_loss", "training loss", "", "minimize"),
        *(
            Metric(f"loss/{term}{suffix}", f"{term}_loss{suffix}", f"{term} loss{word}", "", "minimize")
            for term in ("label", "ensemble", "relation", "logit", "feature")
            for suffix, word in (("", ""), ("_weighted", ", weighted"))
            if term != "label" or not suffix
        ),
        EPOCH_SECONDS,
        GPU_UTILIZATION,
        GPU_MEMORY,
        GPU_POWER,
    )
}
"""All metrics by key."""

COSTS: tuple[Metric, ...] = tuple(metric for metric in METRICS.values() if metric.cost)
"""The costs of inference, the first of which the report shows first."""
INFERENCE: tuple[Metric, ...] = (
    *(*COSTS, MAC_OPS, EFFECTIVE_ACS, EFFECTIVE_MACS, DENSE_OPS),
    *(FOOTPRINT, CONNECTION_SPARSITY, ACTIVATION_SPARSITY, MEMBRANE_UPDATES),
)
"""What exports report of an inference besides its accuracy."""
CONSTRAINABLE: tuple[str, ...] = tuple(metric.key for metric in METRICS.values() if metric.constrainable)
"""The keys that `search.constraints` may bound."""
OBJECTIVES: dict[str, Metric] = {"accuracy": VAL_ACCURACY, "synaptic_ops": SYNAPTIC_OPS}
"""What `search.objectives` may name."""

_BY_COLUMN = {metric.column: metric.key for metric in METRICS.values()}


def by_column(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return metrics under their columns' names; keys that are not registered stay as they are."""
    return {METRICS[key].column if key in METRICS else key: value for key, value in metrics.items()}


def by_key(columns: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the metrics among some columns under their keys: the inverse of `by_column`."""
    return {_BY_COLUMN[name]: value for name, value in columns.items() if name in _BY_COLUMN}


def int8_metrics(compared: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the metrics of `INT8` by key; none where nothing was measured.

    Args:
        compared: as `supersnn.export_formats.int8_format.compared` returns it.
    """
    found = (compared or {}).get("int8", {})
    return {metric.key: found[name] for metric in INT8 if (name := metric.key.partition("/")[2]) in found}


def judged(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the metrics that a trial is judged by: means over its seeds where it has any, else its epoch's own."""
    means = {key.removeprefix(MEAN): value for key, value in metrics.items() if key.startswith(MEAN)}
    return {key: value for key, value in metrics.items() if not key.startswith(MEAN)} | means


def with_means(metrics: Mapping[str, float], finals: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return a seed's last metrics with, under `MEAN`, their means over all seeds so far.

    Args:
        metrics: of the seed's last epoch.
        finals: the last metrics of every seed so far, this one among them. What is measured of the machine has no
            mean, nor has what a seed lacks.
    """
    shared = (key for key in metrics if not key.startswith(OF_MACHINES) and all(key in final for final in finals))
    return {**metrics, **{MEAN + key: statistics.fmean(final[key] for final in finals) for key in shared}}


def violations(metrics: Mapping[str, float | None], constraints: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each constrained metric exceeds its bound: at most 0 where the bound holds.

    A metric that was not measured violates nothing: a network without spikes has no firing rate.
    """
    values = judged(metrics)
    measured = ((key, values.get(key), bound) for key, bound in constraints.items())
    return {key: value - bound for key, value, bound in measured if value is not None}


def feasible(metrics: Mapping[str, float | None], constraints: Mapping[str, float]) -> bool:
    """Return whether the metrics that a trial is judged by are within all bounds."""
    return all(excess <= 0 for excess in violations(metrics, constraints).values())


def mean_of(metrics: Iterable[Mapping[str, float | None]], key: str) -> float | None:
    """Return the mean of a metric over those of some trainings that have it, None where none has."""
    values = [value for one in metrics if (value := one.get(key)) is not None]
    return statistics.fmean(values) if values else None
