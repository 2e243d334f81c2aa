"""Why a search has no winner: how its trials ended, and how many were within the constraints."""

from collections import Counter
from collections.abc import Iterable

from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState


def without_winner(searches: Iterable[str], state: SweepState) -> dict[str, str]:
    """Return each search of a sweep that has no winner, by its name, and the reason in one line."""
    records = {name: state.search(name) for name in searches}
    return {name: reason(record) for name, record in records.items() if record.winner is None}


def reason(search: SearchRecord) -> str:
    """Return why a search has no winner: the ends of its trials, and the most frequent reason of failures."""
    if not search.trials:
        return "no trial was run"
    counts = ", ".join(f"{count} {end}" for end, count in search.counts.items())
    parts = [f"{len(search.trials)} trials: {counts}"]
    if finished := [trial for trial in search.trials.values() if trial.state == "finished"]:
        within = sum(trial.feasible is not False for trial in finished)
        parts.append(f"{within} of {len(finished)} finished ones within search.constraints")
    failures = Counter(trial.end for trial in search.trials.values() if trial.end and trial.state == "failed")
    for end, count in failures.most_common(1):
        parts.append(f"{count} × {' '.join(end.split())[:200]}")
    return "; ".join(parts)
