"""Samplers and schedulers of one's own, by import path: objects of Optuna's classes, or what makes them."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from supersnn import parts
from supersnn.errors import UserError


def own_sampler(path: str, arguments: Mapping[str, Any], seed: int) -> BaseSampler:
    """Return the sampler that an import path names: an object, or a class or function that makes one.

    It is called with its arguments, and with `seed` if it has that parameter.

    Raises:
        UserError: it cannot be imported or called, or makes something else.
    """
    found = _made(path, {"seed": seed}, arguments, "search.sampler_arguments")
    if not isinstance(found, BaseSampler):
        raise UserError(f"search.sampler: {path!r}: expected one of Optuna's samplers, found {type(found).__name__}")
    return found


def own_pruner(path: str, arguments: Mapping[str, Any]) -> BasePruner:
    """Return the pruner that an import path names: an object, or a class or function that makes one.

    Raises:
        UserError: it cannot be imported or called, or makes something else.
    """
    found = _made(path, {}, arguments, "search.scheduler_arguments")
    if not isinstance(found, BasePruner):
        raise UserError(f"search.scheduler: {path!r}: expected one of Optuna's pruners, found {type(found).__name__}")
    return found


def _made(path: str, offered: Mapping[str, Any], arguments: Mapping[str, Any], key: str) -> Any:
    found = parts.load(path)
    if not callable(found):
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return parts.call(path, found, offered, arguments, key)
