"""The search space: search parameters in YAML, their default ranges and Optuna distributions, start-up designs."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Self

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ConfigDict, Field, model_validator

from supersnn.config_model import ConfigModel, Scalar

Values = dict[str, Scalar]


class SearchParameter(ConfigModel):
    """One searched key: exactly one of `uniform`, `log`, `int` and `categorical`.

    `step` applies to `uniform` and `int`. `when` makes the parameter conditional: it maps other keys to the value (or
    list of values) that each must have.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    uniform: tuple[float, float] | None = None
    log: tuple[float, float] | None = None
    integer: tuple[int, int] | None = Field(None, alias="int")
    categorical: tuple[Scalar, ...] | None = None
    step: float | None = Field(None, gt=0)
    when: dict[str, Scalar | tuple[Scalar, ...]] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ranges = [bounds for bounds in (self.uniform, self.log, self.integer) if bounds is not None]
        if len(ranges) + (self.categorical is not None) != 1:
            raise ValueError("give exactly one of uniform, log, int, categorical")
        if self.categorical is not None and (
            not self.categorical or len(set(self.categorical)) < len(self.categorical)
        ):
            raise ValueError(f"categorical needs distinct values, found {list(self.categorical)}")
        for low, high in ranges:
            if not low < high:
                raise ValueError(f"lower bound must be below upper bound, found [{low}, {high}]")
            if self.log is not None and low <= 0:
                raise ValueError(f"log range requires a positive lower bound, found [{low}, {high}]")
        if self.step is not None and (self.log is not None or self.categorical is not None):
            raise ValueError("step applies to uniform and int only")
        return self

    def distribution(self) -> BaseDistribution:
        """Return the parameter as Optuna's distribution."""
        if self.uniform is not None:
            return FloatDistribution(*self.uniform, step=self.step)
        if self.log is not None:
            return FloatDistribution(*self.log, log=True)
        if self.integer is not None:
            return IntDistribution(*self.integer, step=int(self.step or 1))
        assert self.categorical is not None
        return CategoricalDistribution(self.categorical)

    def suggest(self, trial: optuna.trial.BaseTrial, key: str) -> Scalar:
        """Return the trial's value for this parameter under the name `key`."""
        d = self.distribution()
        if isinstance(d, FloatDistribution):
            return trial.suggest_float(key, d.low, d.high, step=d.step, log=d.log)
        if isinstance(d, IntDistribution):
            return trial.suggest_int(key, d.low, d.high, step=d.step)
        assert isinstance(d, CategoricalDistribution)
        return trial.suggest_categorical(key, d.choices)

    def at(self, share: float) -> Scalar:
        """Return the value at a share in [0, 1) of the range (of its logarithm, for `log`)."""
        if self.categorical is not None:
            return self.categorical[int(share * len(self.categorical))]
        if self.log is not None:
            low, high = map(math.log, self.log)
            return math.exp(low + share * (high - low))
        if self.integer is not None:
            step = int(self.step or 1)
            steps = (self.integer[1] - self.integer[0]) // step + 1
            return self.integer[0] + step * int(share * steps)
        assert self.uniform is not None
        low, high = self.uniform
        if self.step is None:
            return low + share * (high - low)
        steps = int((high - low) / self.step + 1e-9) + 1
        return low + self.step * int(share * steps)

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether every key under `when` has one of its values."""
        return all(
            values.get(key) in (allowed if isinstance(allowed, tuple) else (allowed,))
            for key, allowed in (self.when or {}).items()
        )


DEFAULTS: dict[str, SearchParameter] = {
    "neuron.threshold": SearchParameter(uniform=(0.3, 2.0)),
    "neuron.decay": SearchParameter(uniform=(0.1, 0.95)),
    "neuron.reset": SearchParameter(categorical=("hard", "soft")),
    "neuron.surrogate": SearchParameter(categorical=("triangle", "rectangle", "atan", "sigmoid")),
    "neuron.width": SearchParameter(log=(0.25, 4.0)),
    "optimizer.lr": SearchParameter(log=(0.01, 0.3)),
    "optimizer.weight_decay": SearchParameter(log=(5e-5, 1e-3)),
    "loss.relation.weight": SearchParameter(log=(1.0, 1000.0)),
    "loss.relation.time": SearchParameter(categorical=("mean", "concat", "per_step")),
    "loss.relation.pool": SearchParameter(categorical=(1, 2, 4)),
    "loss.logit.weight": SearchParameter(log=(0.05, 5.0)),
    "loss.logit.temperature": SearchParameter(uniform=(1.0, 8.0)),
    "loss.feature.weight": SearchParameter(log=(0.05, 5.0)),
}
"""Published or typical ranges: for `default` in a sweep file, and for the weight of a loss that has none."""


def suggest(
    trial: optuna.trial.BaseTrial, parameters: Mapping[str, SearchParameter], fixed: Mapping[str, Any]
) -> Values:
    """Return a trial's values: each parameter in order, without those whose condition does not hold.

    Args:
        trial: Optuna's trial, which suggests the same value for a parameter every time.
        parameters: the arm's search space.
        fixed: the values of the keys that are not searched, for conditions.
    """
    values: Values = {}
    for key, parameter in parameters.items():
        if parameter.exists({**fixed, **values}):
            values[key] = parameter.suggest(trial, key)
    return values


def startup_design(parameters: Mapping[str, SearchParameter], number: int, count: int, seed: int) -> Values:
    """Return design `number` of a Latin hypercube of `count`, drawn for each parameter from its name and the seed.

    A parameter that two arms share therefore has the same values in both, whatever else they search.
    """
    return {key: parameter.at(_stratum(key, number, count, seed)) for key, parameter in parameters.items()}


def _stratum(key: str, number: int, count: int, seed: int) -> float:
    """Return a share in [0, 1): a stratum of the parameter's own permutation, and a random point inside it."""
    order = sorted(range(count), key=lambda i: _hash(key, seed, "order", i))
    return (order[number % count] + _hash(key, seed, "place", number)) / count


def _hash(*parts: object) -> float:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
