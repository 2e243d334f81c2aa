"""What people asked for that bears on the next trial: paused searches, given values, trials that are run again."""

from collections.abc import Collection

from supersnn.records import steering
from supersnn.records.state import SweepState
from tune.description.space import Values


class Wishes:
    """The granted requests of a sweep's state, which goes on changing; without a state there are none."""

    def __init__(self, state: SweepState | None = None) -> None:
        self._state = state or SweepState()

    def paused(self, search: str) -> bool:
        """Return whether no trial of a search may run."""
        return bool(self._state.requests) and search in steering.paused(self._state)

    def given(self, search: str, taken: Collection[str]) -> tuple[str, Values] | None:
        """Return the values that a person gave for a search's next trial with the request's id, None for none.

        Args:
            search: its name.
            taken: the ids of requests that have their trial already.
        """
        if not self._state.requests:
            return None
        asked = (one for one in steering.given(self._state, search) if one.id not in taken)
        return next(((one.id, dict(one.values)) for one in asked), None)

    def run_again(self, search: str) -> set[int]:
        """Return the failed trials of a search that are run again, which do not count as spent."""
        return steering.retried(self._state, search) if self._state.requests else set()
