"""The nodes of a sweep, compared: what each trained, its failures, the pace of its epochs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.tables import Sweep
from supersnn.records.nodes import NodeRecord, slow_text, slowness

COLUMNS = ("node", "gpus", "trials", "failed", "epochs", "seconds_per_epoch", "slowness")


def nodes(sweep: Sweep) -> pd.DataFrame:
    """Return a row for each node on which trials have trained, or failed.

    `trials`: that have begun or gone on there; `failed`: that have failed there; `epochs` and `seconds_per_epoch`:
    without the first epoch of each worker; `slowness`: how many times as long its epochs take as the median of the
    other nodes', each kind of training compared by itself, missing where none can be compared.
    """
    every = list(sweep.state.nodes.values())
    return pd.DataFrame([_row(node, every) for node in every], columns=list(COLUMNS))


def _row(node: NodeRecord, every: list[NodeRecord]) -> dict[str, Any]:
    epochs, seconds = sum(node.epochs.values()), sum(node.seconds.values())
    return {
        "node": node.name,
        "gpus": ", ".join(node.gpus) or None,
        "trials": node.trials,
        "failed": node.failed,
        "epochs": epochs,
        "seconds_per_epoch": seconds / epochs if epochs else None,
        "slowness": slowness(node, every),
    }


def slow(sweep: Sweep) -> Iterator[str]:
    """Yield a sentence for each node that is slow."""
    for text in slow_text(sweep.state.nodes.values()):
        yield f"{text[:1].upper()}{text[1:]}."
