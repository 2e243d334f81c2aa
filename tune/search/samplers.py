"""Optuna's samplers by name, one for each arm's study, seeded."""

import warnings

import optuna
from optuna.samplers import BaseSampler

from supersnn.config import Scalar, digest
from tune.description.arms import Arm
from tune.description.space import Knob
from tune.description.sweep import SweepConfig

DESIGNED = ("tpe", "gp", "cmaes", "nsga2", "nsga3")
"""The samplers that begin with start-up trials; the others are designs themselves."""

_GRID_POINTS = 5


def sampler(sweep: SweepConfig, arm: Arm, driver: str) -> BaseSampler:
    """Return the arm's sampler.

    A random one draws anew at each start of a driver, so that a restart does not propose the same points again; a
    design (`qmc`, `grid`) keeps one seed and goes on where it was.
    """
    name, startup = sweep.search.sampler, sweep.search.startup_trials()
    seed = int(digest(sweep.seed, arm.name, "" if name in ("qmc", "grid") else driver), 16) % 2**31
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match name:
            case "tpe":
                conditional = any(knob.when for knob in arm.knobs.values())
                return optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=startup, multivariate=True, group=conditional
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "qmc":
                return optuna.samplers.QMCSampler(seed=seed, warn_asynchronous_seeding=False)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(startup, 2))
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(seed=seed, population_size=max(startup, 2))
            case "grid":
                return optuna.samplers.GridSampler({key: _grid(knob) for key, knob in arm.knobs.items()}, seed=seed)


def _grid(knob: Knob) -> list[Scalar]:
    """A knob's values on the grid: its choices, or points evenly spread over its range, its ends among them."""
    if knob.categorical is not None:
        return list(knob.categorical)
    shares = [point / (_GRID_POINTS - 1) for point in range(_GRID_POINTS)]
    return sorted({knob.at(min(share, 1 - 1e-12)) for share in shares}, key=lambda value: float(str(value)))
