"""What people changed while a sweep ran: in sentences beside its budgets, and which arms they favoured."""

from collections.abc import Iterator
from typing import Any

from analysis.sentences import listed
from analysis.tables import Sweep
from supersnn.records import steering
from supersnn.records.searches import SearchId

SHOWN = 20
"""Requests that a sentence describes, those first that change more than when a trial runs; the JSON has all."""


def requests(sweep: Sweep) -> list[dict[str, Any]]:
    """Return each request as plain values, in the order in which they were taken up, refused ones too.

    `trials` is how many trials had started by then.
    """
    started = sorted(trial.started for _, trial in sweep.state.trials())
    return [
        request.model_dump(exclude={"event", "config"}) | {"trials": sum(at <= request.time for at in started)}
        for request in sweep.state.requests.values()
    ]


def favoured(sweep: Sweep) -> dict[str, int]:
    """Return for each arm to which people gave trials how many these are."""
    counts: dict[str, int] = {}
    for search, count in steering.favoured(sweep.state).items():
        arm = SearchId.parse(search).arm
        counts[arm] = counts.get(arm, 0) + count
    return counts


def caution(sweep: Sweep) -> Iterator[str]:
    """Say which arms were favoured, or that all were alike."""
    if counts := favoured(sweep):
        given = listed(f"{arm} ({count} trial{'s' * (count > 1)})" for arm, count in counts.items())
        head = f"People gave values to trials of {given}, marked *: what they know of a good student went into"
        if _equally(sweep):
            yield f"{head} every arm alike."
        elif counts.keys() >= set(sweep.arms):
            yield f"{head} some arms more than into others, so that the arms differ in more than their teachers."
        else:
            yield f"{head} these arms alone, so that the arms differ in more than their teachers."


def _equally(sweep: Sweep) -> bool:
    """Return whether people gave as many trials to every arm, on each data set in each replicate."""
    cells: dict[tuple[str | None, int], dict[str, int]] = {}
    for search, count in steering.favoured(sweep.state).items():
        found = SearchId.parse(search)
        cells.setdefault((found.dataset, found.replicate), {})[found.arm] = count
    return all(set(given) == set(sweep.arms) and len(set(given.values())) == 1 for given in cells.values())


def changes(sweep: Sweep) -> Iterator[str]:
    """Say what else was changed while the sweep ran, after how many trials, and what that makes of the budgets."""
    rows = [row for row in requests(sweep) if row["refused"] is None and row["kind"] in _TEXTS]
    if not rows:
        return
    first = sorted(range(len(rows)), key=lambda position: (rows[position]["kind"] in _ONLY_WHEN, position))[:SHOWN]
    more = f", and {len(rows) - SHOWN} more requests" if len(rows) > SHOWN else ""
    shown = listed(f"{_TEXTS[rows[at]['kind']](rows[at])} after {rows[at]['trials']} trials" for at in sorted(first))
    yield f"The sweep was changed while it ran: {shown}{more}. {_budgets(sweep)}"


def _budgets(sweep: Sweep) -> str:
    """Return how many trials each search has had, without failed ones that were run again."""
    state = sweep.state
    counts = {name: len(search.trials) - len(steering.retried(state, name)) for name, search in state.searches.items()}
    again = sum(len(search.trials) - counts[name] for name, search in state.searches.items())
    without = f", without {again} failed one{'s' * (again > 1)} that ran again" if again else ""
    if len(set(counts.values())) == 1:
        return f"All arms have had as many trials all the same: {next(iter(counts.values()))}{without}."
    had = listed(f"{name} {n}" for name, n in counts.items())
    return f"The arms have had different numbers of trials{without}: {had}."


def _change(row: dict[str, Any]) -> str:
    parts = []
    for key, value in row["values"].items():
        before = row["before"].get(key)
        if key.startswith("arms.") and before is None:
            parts.append(f"arm {key.removeprefix('arms.')} was added")
        else:
            parts.append(f"{key} was changed from {_text(before)} to {_text(value)}")
    return " and ".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item is not None)
    return "none" if value is None else str(value)


_ONLY_WHEN = ("pause", "resume", "stop")
_TEXTS = {
    "change": _change,
    "pause": lambda row: f"{listed(row['searches'])} paused",
    "resume": lambda row: f"{listed(row['searches'])} resumed",
    "stop": lambda _row: "its driver was stopped",
    "enqueue": lambda row: f"{listed(row['searches'])} given a trial",
    "retry": lambda row: f"failed trial {listed(row['searches'])}/{row['trial']} run again",
}
