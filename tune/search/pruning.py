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
    search = sweep.search
    lowest = search.min_epochs or max(1, round(sweep.train.epochs / 3))
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
