"""The search space: search parameters in YAML, their default ranges and Optuna distributions, start-up designs."""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, Self

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ConfigDict, Field, model_validator

from supersnn.config_model import ConfigModel, Integer, Number, Positive
from supersnn.nested import Scalar

Values = dict[str, Scalar]
GRID_POINTS = 5
"""How many points of a range are on the grid of `sampler: grid`."""
MOST_CHOICES, MOST_INTEGERS = 1000, 100
"""How many values `categorical` may have, and how many integers of a range are tried one by one."""


class SearchParameter(ConfigModel):
    """One searched key: exactly one of `uniform`, `log`, `int` and `categorical`.

    `step` applies to `uniform` and `int`. `when` makes the parameter conditional: it maps other keys to the value (or
    list of values) that each must have.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    uniform: tuple[Number, Number] | None = None
    log: tuple[Number, Number] | None = None
    integer: tuple[Integer, Integer] | None = Field(None, alias="int")
    categorical: tuple[Scalar, ...] | None = None
    step: Positive | None = None
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
        if self.categorical is not None and len(self.categorical) > MOST_CHOICES:
            raise ValueError(f"categorical: expected at most {MOST_CHOICES} values, found {len(self.categorical)}")
        for low, high in ranges:
            if max(abs(low), abs(high)) > 2**53:
                raise ValueError(f"the bounds of a range must be within ±2^53, found [{low:g}, {high:g}]")
            self._require_steps(low, high)
        if self.when is not None and any(allowed == () for allowed in self.when.values()):
            raise ValueError(f"when: expected a value or several for each key, found {self.when}")
        return self

    def _require_steps(self, low: float, high: float) -> None:
        """Check that the step is of the range's type, and leaves several values, at most 2^31."""
        if self.step is None:
            return
        if self.integer is not None and self.step != int(self.step):
            raise ValueError(f"step: expected an integer with int, found {self.step:g}")
        if low + self.step > high:
            raise ValueError(f"step: {self.step:g} leaves one value of [{low:g}, {high:g}]; expected a smaller step")
        if (high - low) / self.step > 2**31:
            raise ValueError(f"step: {self.step:g} leaves too many values of [{low:g}, {high:g}]")

    def distribution(self) -> BaseDistribution:
        """Return the parameter as Optuna's distribution."""
        if self.uniform is not None:
            return FloatDistribution(self.uniform[0], self._highest(), step=self.step)
        if self.log is not None:
            return FloatDistribution(*self.log, log=True)
        if self.integer is not None:
            return IntDistribution(self.integer[0], int(self._highest()), step=int(self.step or 1))
        assert self.categorical is not None
        return CategoricalDistribution(self.categorical)

    def _highest(self) -> float:
        """Return the upper bound, reduced to the last step as Optuna does; in decimals, in which steps are written."""
        bounds = self.uniform or self.integer
        assert bounds is not None
        if self.step is None:
            return bounds[1]
        low, high, step = (Decimal(str(number)) for number in (*bounds, self.step))
        return bounds[1] if (high - low) % step == 0 else float((high - low) // step * step + low)

    def accepts(self, value: object) -> bool:
        """Return whether a value is of the parameter's type, and one that it can have."""
        if self.categorical is not None:
            return any(value == choice and type(value) is type(choice) for choice in self.categorical)
        expected = int if self.integer is not None else (int, float)
        if isinstance(value, bool) or not isinstance(value, expected):
            return False
        return self.distribution()._contains(float(value))

    def samples(self) -> list[Scalar]:
        """Return every value if they are few, else both ends of the range and its middle."""
        if self.categorical is not None:
            return list(self.categorical)
        distribution = self.distribution()
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high, step = distribution.low, distribution.high, distribution.step
        if isinstance(distribution, IntDistribution) and (high - low) / (step or 1) < MOST_INTEGERS:
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        return [low, self.at(0.5), high]

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
            return min(max(math.exp(low + share * (high - low)), self.log[0]), self.log[1])
        if self.integer is not None:
            step = int(self.step or 1)
            steps = (self.integer[1] - self.integer[0]) // step + 1
            return self.integer[0] + step * int(share * steps)
        assert self.uniform is not None
        low, high = self.uniform
        if self.step is None:
            return low + share * (high - low)
        steps = int((high - low) / self.step + 1e-9) + 1
        return min(low + self.step * int(share * steps), self._highest())

    def grid(self) -> list[Scalar]:
        """Return the values on a grid: the choices, or evenly spaced points of the range with both ends."""
        if self.categorical is not None:
            return list(self.categorical)
        shares = [point / (GRID_POINTS - 1) for point in range(GRID_POINTS)]
        return sorted({self.at(min(share, 1 - 1e-12)) for share in shares}, key=lambda value: float(str(value)))

    def another(self, known: Collection[Scalar]) -> Scalar | None:
        """Return a value that is none of the known ones, None where the parameter has no other."""
        candidates: Iterable[Scalar] = self.samples()
        bounds = self.integer or (self.uniform if self.step is not None else None)
        if bounds is not None:
            step, highest = self.step or 1, self._highest()
            count = min(len(known), round((highest - bounds[0]) / step)) + 1
            candidates = (min(bounds[0] + (int(step) if self.integer else step) * n, highest) for n in range(count))
        return next((value for value in candidates if not allows(tuple(known), value)), None)

    def text(self) -> str:
        """Return the range as it is written in a sweep file."""
        return ", ".join(f"{key}: {value}" for key, value in self.model_dump(mode="json", exclude_none=True).items())

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether every key under `when` has one of its values."""
        return all(allows(allowed, values.get(key)) for key, allowed in (self.when or {}).items())


def allows(allowed: Scalar | tuple[Scalar, ...], value: object) -> bool:
    """Return whether a value is the one, or one of those, that a condition allows.

    Floats may differ in their last digits: a multiple of a step is rounded otherwise than the number in the file.
    """
    return any(
        value == one or (isinstance(value, float) and isinstance(one, int | float) and math.isclose(value, one))
        for one in (allowed if isinstance(allowed, tuple) else (allowed,))
    )


DEFAULTS: dict[str, SearchParameter] = {
    "neuron.threshold": SearchParameter(uniform=(0.3, 2.0)),
    "neuron.decay": SearchParameter(uniform=(0.1, 0.95)),
    "neuron.reset": SearchParameter(categorical=("hard", "soft")),
    "neuron.surrogate": SearchParameter(categorical=("triangle", "rectangle", "atan", "sigmoid")),
    "neuron.width": SearchParameter(log=(0.25, 4.0)),
    "optimizer.lr": SearchParameter(log=(0.02, 1.0)),
    "optimizer.weight_decay": SearchParameter(log=(5e-5, 1e-3)),
    "loss.relation.weight": SearchParameter(log=(0.3, 30.0)),
    "loss.relation.time": SearchParameter(categorical=("mean", "concat", "per_step")),
    "loss.relation.pool": SearchParameter(categorical=(1, 2, 4)),
    "loss.logit.weight": SearchParameter(log=(0.05, 5.0)),
    "loss.logit.temperature": SearchParameter(uniform=(1.0, 8.0)),
    "loss.feature.weight": SearchParameter(log=(0.05, 5.0)),
}
"""Published or typical ranges: for `default` in a sweep file, and for the weight of a loss that has none.

That of the relational term's weight depends on its kind (`relation_ranges`); here is that of most kinds. Learning rates
reach to 1 because students with convolutions at PyTorch's scale were best at 0.4 and 0.8 (benchmarks/RESULTS.md).
"""


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
