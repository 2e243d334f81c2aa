"""Early stopping by name: Optuna's pruners, one for each arm's study, with epochs as the fidelity."""

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)

from tune.sweep import SweepConfig


def pruner(sweep: SweepConfig) -> BasePruner:
    """Return the pruner that the sweep names.

    The smallest budget is `search.min_epochs`, by default a ninth of all epochs; each rung is `search.reduction`
    times the one below. A pruner ranks the trials of its own study only, so no arm stops another's.
    """
    search = sweep.search
    lowest = search.min_epochs or max(1, round(sweep.train.epochs / 9))
    match search.scheduler:
        case "asha":
            return SuccessiveHalvingPruner(min_resource=lowest, reduction_factor=search.reduction)
        case "hyperband":
            return HyperbandPruner(lowest, sweep.train.epochs, search.reduction)
        case "median":
            return MedianPruner(n_startup_trials=search.startup_trials(), n_warmup_steps=lowest)
        case "none":
            return NopPruner()
