"""Each metric is defined once, under one key and one column."""

import pytest

from supersnn.records.metrics import (
    CONSTRAINABLE,
    COSTS,
    INFERENCE,
    METRICS,
    OBJECTIVES,
    by_column,
    by_key,
    feasible,
    judged,
    mean_of,
    violations,
    with_means,
)


def test_keys_and_columns_are_unique_and_inverse() -> None:
    columns = {metric.column for metric in METRICS.values()}
    assert len(columns) == len(METRICS)
    values: dict[str, float | None] = dict.fromkeys(METRICS, 0.5)
    assert by_key(by_column(values)) == values
    assert by_column({"spikes/rate": 0.1, "of/somebody": 2.0}) == {"spike_rate": 0.1, "of/somebody": 2.0}
    assert by_key({"spike_rate": 0.1, "seed": 3.0}) == {"spikes/rate": 0.1}


def test_the_columns_that_users_have() -> None:
    assert [metric.column for metric in COSTS] == ["spike_rate", "synaptic_ops", "energy_nj"]
    neurobench = ["effective_acs", "effective_macs", "dense_ops"]
    neurobench += ["footprint", "connection_sparsity", "activation_sparsity", "membrane_updates"]
    assert [metric.column for metric in INFERENCE] == ["spike_rate", "synaptic_ops", "energy_nj", "mac", *neurobench]
    bounded = {"spikes/rate", "ops/synaptic", "ops/mac", "energy/nj", "val/loss"}
    assert set(CONSTRAINABLE) == bounded | {"ops/effective_ac", "ops/effective_mac"}
    assert {name: metric.key for name, metric in OBJECTIVES.items()} == {
        "accuracy": "val/accuracy",
        "synaptic_ops": "ops/synaptic",
    }


def test_a_trial_is_judged_by_its_means_where_it_has_any() -> None:
    first = {"val/accuracy": 0.5, "spikes/rate": 0.2, "time/epoch_s": 1.0}
    second = {"val/accuracy": 0.7, "spikes/rate": 0.4, "time/epoch_s": 3.0}
    metrics = with_means(second, [first, second])
    assert metrics == {**second, "mean/val/accuracy": 0.6, "mean/spikes/rate": pytest.approx(0.3)}
    assert judged(metrics) == {"val/accuracy": 0.6, "spikes/rate": pytest.approx(0.3), "time/epoch_s": 3.0}
    assert judged(first) == first
    assert "mean/spikes/rate" not in with_means(second, [{"val/accuracy": 0.5}, second])
    busy = [{"val/accuracy": 0.5, "gpu/power_w": 300.0}] * 2
    assert "mean/gpu/power_w" not in with_means(busy[1], busy)


def test_bounds_are_upper_bounds_on_what_a_trial_is_judged_by() -> None:
    metrics = {"spikes/rate": 0.4, "mean/spikes/rate": 0.3}
    assert violations(metrics, {"spikes/rate": 0.3}) == {"spikes/rate": 0.0}
    assert feasible(metrics, {"spikes/rate": 0.3})
    assert not feasible({"spikes/rate": 0.31}, {"spikes/rate": 0.3})
    assert feasible({}, {"spikes/rate": 0.3})
    assert violations({"energy/nj": None}, {"energy/nj": 1.0}) == {}


def test_a_mean_leaves_out_what_is_missing() -> None:
    assert mean_of([{"a": 1.0}, {"a": None}, {}, {"a": 2.0}], "a") == 1.5
    assert mean_of([{}], "a") is None
