"""Metrics of your own, which are measured after each epoch: functions of the network and the validation images.

A metric is called as ``metric(network, images, data)``: the `Network` in evaluation mode and without gradients, the
validation `Images` and the `TrainingData` (for its `mean` and `std`). It returns a finite number, under the key
``own/NAME`` with the name of the function.
"""

import math
from collections.abc import Iterable

from supersnn import parts
from supersnn.data import TrainingData
from supersnn.errors import UserError, prefix_errors
from supersnn.networks.base import Network, evaluating
from supersnn.records.metrics import OWN


def name_of(path: str) -> str:
    """Return the key of a metric."""
    return OWN + path.rpartition(":")[2].rpartition(".")[2]


def own_metrics(paths: Iterable[str], network: Network, data: TrainingData) -> dict[str, float]:
    """Return the metrics by key; the network keeps its mode.

    Raises:
        UserError: one cannot be imported, or returns something else than a finite number.
    """
    with evaluating(network), prefix_errors("train.metrics"):
        return {name_of(path): _measured(path, network.eval(), data) for path in paths}  # one may have changed the mode


def check_metrics(paths: Iterable[str]) -> None:
    """Check that metrics can be imported and called, and that their names differ.

    Raises:
        UserError: one cannot.
    """
    seen: dict[str, str] = {}
    with prefix_errors("train.metrics"):
        for path in paths:
            parts.check_arguments(path, parts.function(path), (), (), "", positional=3)
            if (other := seen.setdefault(name_of(path), path)) != path or list(paths).count(path) > 1:
                raise UserError(f"{path!r} and {other!r} have the same name; expected names that differ")


def _measured(path: str, network: Network, data: TrainingData) -> float:
    with parts.raised_by(path):
        value = parts.function(path)(network, data.validation, data)
        number = float(value)
    if not math.isfinite(number):
        raise UserError(f"{path!r}: expected a finite number, found {number}")
    return number
