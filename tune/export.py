"""The verified configuration of an arm becomes an export folder: the seed with the median validation accuracy."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supersnn import checkpoint, exported
from supersnn.config import TrainConfig, with_values
from supersnn.data import training_data
from tune.verify import WEIGHTS


def median_seed(results: Sequence[Mapping[str, Any]]) -> int:
    """Return the seed whose validation accuracy is the median (the lower of two; the smaller seed of equals)."""
    ordered = sorted(results, key=lambda result: (result["val"], result["seed"]))
    return int(ordered[(len(ordered) - 1) // 2]["seed"])


def export_verified(
    to: Path,
    config: TrainConfig,
    trial_folder: Path,
    results: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> int:
    """Write the export folder of a verified trial; return the seed whose weights it holds.

    Args:
        to: the folder to write, replaced as a whole.
        config: the trial's training; its seed is replaced by the exported one.
        trial_folder: where the verification left each seed's weights.
        results: the verified results, one a seed.
        about: what else the metrics file is to say (sweep, arm, trial, search value, teacher).
    """
    seed = median_seed(results)
    chosen = next(result for result in results if result["seed"] == seed)
    weights, _ = checkpoint.load(trial_folder / str(seed) / WEIGHTS)
    tests = [result["test"] for result in results]
    metrics = {
        **about,
        "seed": seed,
        "val_accuracy": chosen["val"],
        "test_accuracy": chosen["test"],
        "test_mean": statistics.fmean(tests),
        "test_sd": statistics.stdev(tests) if len(tests) > 1 else None,
        "val_mean": statistics.fmean(result["val"] for result in results),
        "shrinkage": about["search_value"] - statistics.fmean(result["val"] for result in results),
        "spike_rate": chosen["spike_rate"],
        "synaptic_ops": chosen["synaptic_ops"],
        "mac": chosen["mac"],
        "energy_nj": chosen["energy_nj"],
        "verified": [{key: result[key] for key in ("seed", "val", "test")} for result in results],
    }
    preprocessing = exported.Preprocessing.of(training_data(config.dataset))
    exported.write(to, with_values(config, {"seed": seed}), weights, preprocessing, metrics)
    return seed
