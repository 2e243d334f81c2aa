"""What a sweep that has run says about a later one: variances of its searches and seeds, and the cost of each.

With several replicates the variance between searches is measured. With one it is estimated from the search's trials,
which is too small (see `analysis.luck`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.arms import comparisons
from analysis.components import components_of
from analysis.luck import another_search
from analysis.planning import Variances, upper
from analysis.tables import Sweep
from analysis.units import groups
from supersnn.errors import UserError


@dataclass(frozen=True)
class Pilot:
    """One data set of a sweep that has run.

    Attributes:
        variances: between searches and between fresh seeds of a winner, as estimated.
        cautious: the same, with the upper 80 % confidence limit of the searches'.
        source: what the variance between searches comes from.
        searches: how many replicates it comes from.
        epoch_seconds: the mean time of an epoch of a student.
        trained: the share of its trials' epochs that the search has trained, which early stopping makes smaller.
        at_once: how many trainings ran at once, on average over the drivers' time.
        gpus: what a training had of a GPU, on average over time; NaN where that is not known.
    """

    variances: Variances
    cautious: Variances
    source: Literal["replicates", "trials"]
    searches: int
    epoch_seconds: float
    trained: float
    at_once: float
    gpus: float


def pilots(sweep: Sweep) -> dict[str, Pilot]:
    """Return the pilot of each data set of a sweep that has final runs.

    Raises:
        UserError: no data set has winners with two final runs, or nothing is known of the variance between searches.
    """
    found = {}
    for (_, dataset), searches in groups(sweep.verified, "test").items():
        of = components_of(searches)
        if not np.isfinite(of.seed):
            continue
        single = of.searches < 2
        between = _from_trials(sweep, dataset) if single else of.search
        if not np.isfinite(between):
            continue
        # A limit of the mean square of winners' means, less the part of it that is the seeds'.
        limit = between if single else max(between, upper(of.square, of.freedom) - of.seed / of.seeds)
        found[dataset] = Pilot(
            Variances(between, of.seed), Variances(limit, of.seed), "trials" if single else "replicates",
            max(1, of.searches), *_costs(sweep, dataset),
        )  # fmt: skip
    if not found:
        raise UserError(f"{sweep.name}: no pilot: expected a sweep whose winners have at least two final runs each")
    return found


def _from_trials(sweep: Sweep, dataset: str) -> float:
    """Return the variance between searches of an arm that drawing the trials again gives, on average over arms."""
    trials = sweep.on(dataset).trials
    pairs = comparisons(sweep.arms)
    sds = another_search(trials, pairs)["sd"]
    return float((sds**2).mean() / 2) if len(sds) else np.nan


def _costs(sweep: Sweep, dataset: str) -> tuple[float, float, float, float]:
    """Return seconds an epoch, the share of a search's epochs that are trained, trainings at once, and GPUs each."""
    trials = sweep.on(dataset).trials
    known = trials[trials["seconds"].notna()]
    epochs = float(known["epochs"].sum())
    seconds = float(known["seconds"].sum()) / epochs if epochs else np.nan
    full = _full_epochs(sweep)
    trained = epochs / (full * len(trials)) if full and len(trials) else 1.0
    busy = sum(float(table["seconds"].sum()) for table in (sweep.trials, sweep.ranked, sweep.verified, sweep.teachers))
    elapsed = sweep.state.driver_seconds()
    placed = known[known["gpus"].notna() & (known["seconds"] > 0)]
    gpus = float(np.average(placed["gpus"], weights=placed["seconds"])) if len(placed) else np.nan
    return seconds, min(1.0, trained), max(1.0, busy / elapsed) if elapsed else 1.0, gpus


def _full_epochs(sweep: Sweep) -> float:
    """Return the epochs of a trial that is not stopped early: those of the longest."""
    finished = sweep.trials.loc[sweep.trials["state"] == "finished", "epochs"]
    return float(pd.to_numeric(finished).max()) if len(finished) else 0.0
