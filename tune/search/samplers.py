"""Optuna's samplers by name, one for each arm's study, seeded."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from supersnn.digests import digest
from tune.description.arms import Arm
from tune.description.own_search import own_sampler
from tune.description.sweep import SweepConfig

DESIGNED = ("tpe", "gp", "cmaes", "nsga2", "nsga3")
"""The samplers that begin with start-up trials; the others are designs themselves."""

_BEST, _LATEST = 100, 400
"""How many trials TPE models at most. It takes at most 25 as the good ones; the others give the common density."""


class TPE(TPESampler):
    """Optuna's TPE at a bounded cost: of more than 500 trials it models the best 100 and the latest 400."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for all parameters together."""
        return super().sample_relative(_seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value for one parameter."""
        return super().sample_independent(_seen(study), trial, param_name, param_distribution)


class Grid(optuna.samplers.GridSampler):
    """Optuna's grid, which does not stop the study after its last point: that fails outside of `Study.optimize`."""

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Do nothing: the sweep's budget ends the search."""


def _seen(study: Study) -> Study:
    """The study as TPE sees it. With several objectives it sees all trials: the best ones depend on all of them."""
    return study if len(study.directions) > 1 else cast(Study, _Horizon(study))


class _Horizon:
    """A study restricted to the best and the latest of its trials."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, *args: Any, **options: Any) -> list[FrozenTrial]:
        trials = self._study._get_trials(*args, **options)
        if len(trials) <= _BEST + _LATEST:
            return trials
        earlier, latest = trials[:-_LATEST], trials[-_LATEST:]
        return sorted(earlier, key=_worth, reverse=True)[:_BEST] + latest


def _worth(trial: FrozenTrial) -> tuple[float, bool, int, float]:
    """The order of trials as in TPE: the least violation first, then complete ones, later steps, higher values."""
    values: Mapping[int, float] = trial.intermediate_values
    feasible = -sum(value for value in trial.constraints.values() if value > 0)
    if trial.state == TrialState.COMPLETE:
        return feasible, True, 0, trial.values[0]
    last = max(values, default=-1)
    return feasible, False, last, values.get(last, 0.0)


def sampler(sweep: SweepConfig, arm: Arm, number: int) -> BaseSampler:
    """Return the sampler that suggests an arm's trial `number`.

    It is seeded by the sweep's seed, the arm and the number, so that the same earlier trials lead to the same
    suggestion, also after a restart. A design (`qmc`, `grid`) has one seed for all trials.

    Args:
        sweep: whose sampler it is.
        arm: whose parameters are sampled.
        number: of the trial in its arm, those of a warm start not counted.
    """
    name, startup = sweep.search.sampler, sweep.search.startup_trials()
    seed, design_seed = (int(digest(sweep.seed, arm.name, part), 16) % 2**31 for part in (number, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match name:
            case "tpe":
                joint = len(sweep.search.objectives) == 1  # with several, as Optuna does; no difference was measured
                conditional = any(parameter.when for parameter in arm.parameters.values())
                return TPE(seed=seed, n_startup_trials=startup, multivariate=joint, group=joint and conditional)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "qmc":
                return optuna.samplers.QMCSampler(
                    seed=design_seed,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),  # of conditional parameters
                    warn_asynchronous_seeding=False,
                    warn_independent_sampling=False,
                )
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(
                    seed=seed, n_startup_trials=startup, warn_independent_sampling=False
                )
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(startup, 2))
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(seed=seed, population_size=max(startup, 2))
            case "grid":
                return Grid({key: parameter.grid() for key, parameter in arm.parameters.items()}, seed=design_seed)
            case _:
                return own_sampler(name, sweep.search.sampler_arguments, seed)
