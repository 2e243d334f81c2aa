"""Early stopping by name: Optuna's pruners, one for each arm's study, with epochs (or seeds) as the fidelity."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)

from tune.description.own_search import own_pruner
from tune.description.sweep import SweepConfig


def pruner(sweep: SweepConfig) -> BasePruner:
    """Return the pruner that the sweep names.

    The smallest budget is `search.min_epochs`, by default a third of a training's epochs, because a spiking student's
    first epochs say little of its last: on digits a first rung at a ninth stops most of the best. Each rung is
    `search.reduction` times the one below. A pruner ranks the trials of its own study only, so no arm stops another's.
    """
    search, lowest = sweep.search, _lowest(sweep)
    match search.scheduler:
        case "asha":
            return SuccessiveHalvingPruner(min_resource=lowest, reduction_factor=search.reduction)
        case "hyperband":
            return HyperbandPruner(lowest, sweep.trial_epochs(), search.reduction)
        case "median":
            return MedianPruner(n_startup_trials=search.startup_trials(), n_warmup_steps=lowest)
        case "wilcoxon":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return WilcoxonPruner()
        case "none":
            return NopPruner()
        case _:
            return own_pruner(search.scheduler, search.scheduler_arguments)


def rungs(sweep: SweepConfig) -> tuple[int, ...]:
    """Return the epochs after which trials are compared by successive halving; none for other pruners."""
    if sweep.search.scheduler not in ("asha", "hyperband"):
        return ()
    found, epoch = [], _lowest(sweep)
    while epoch <= sweep.train.epochs:
        found.append(epoch)
        epoch *= sweep.search.reduction
    return tuple(found)


def _lowest(sweep: SweepConfig) -> int:
    """Return the smallest budget of a trial in epochs."""
    return sweep.search.min_epochs or max(1, round(sweep.train.epochs / 3))
