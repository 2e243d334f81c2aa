"""Checks of samplers and schedulers of one's own, for `supersnn check-part`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from supersnn import parts
from supersnn.errors import UserError
from supersnn.testing import Finding
from supersnn.testing.checks import findings_of
from tune.description.own_search import own_pruner, own_sampler

_TRIALS = 12


def search_kind(path: str) -> str | None:
    """Return ``sampler`` or ``scheduler`` where a part looks like one, else None."""
    found = parts.load(path)
    for kind, base in (("sampler", BaseSampler), ("scheduler", BasePruner)):
        hint = getattr(found, "__annotations__", {}).get("return")
        if isinstance(found, base) or any(isinstance(one, type) and issubclass(one, base) for one in (found, hint)):
            return kind
    return None


def check_search_part(path: str, kind: str, arguments: Mapping[str, Any]) -> list[Finding]:
    """Return the findings on a sampler or a scheduler, up to the first fault."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return findings_of(SEARCH_CHECKS[kind](path, arguments))


def _sampler(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "one of Optuna's samplers", type(own_sampler(path, arguments, 0)).__name__
    first, again = (_suggested(path, arguments, seed=3) for _ in range(2))
    for x, kind in first:
        if not 0.1 <= x <= 10 or kind not in ("a", "b"):
            raise UserError(f"{path!r}: suggests values out of the search space: {x}, {kind!r}")
    yield f"suggests values of the space, {_TRIALS} times", f"{len(set(first))} different ones"
    if first != again:
        raise UserError(f"{path!r}: with the same seed it suggests other values: draw from the seed that it is given")
    yield "the same suggestions for the same seeds", "same values"


def _suggested(path: str, arguments: Mapping[str, Any], seed: int) -> list[tuple[float, str]]:
    """Return the suggestions of a study, whose sampler is made anew before each trial, as in a sweep."""
    study, found = optuna.create_study(), []
    for number in range(_TRIALS):
        study.sampler = own_sampler(path, arguments, seed + number)
        trial = study.ask()
        x, kind = trial.suggest_float("x", 0.1, 10, log=True), trial.suggest_categorical("kind", ["a", "b"])
        found.append((x, kind))
        study.tell(trial, (x - 1) ** 2 + (kind == "b"))
    return found


def _scheduler(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    study = optuna.create_study(direction="maximize", pruner=own_pruner(path, arguments))
    yield "one of Optuna's pruners", type(study.pruner).__name__
    stopped = 0
    for number in range(_TRIALS):
        trial = study.ask()
        value = 0.0
        for step in range(1, 7):
            value = 0.1 * (number % 4) + 0.05 * step
            trial.report(value, step)
            if trial.should_prune():
                stopped += 1
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value)
    if stopped == _TRIALS:
        raise UserError(f"{path!r}: stops every trial")
    yield f"stops some of {_TRIALS} trials at most", f"{stopped} stopped"


SEARCH_CHECKS: dict[str, Callable[[str, Mapping[str, Any]], Iterator[tuple[str, str]]]] = {
    "sampler": _sampler,
    "scheduler": _scheduler,
}
"""The checks of parts of the search by their kind."""
