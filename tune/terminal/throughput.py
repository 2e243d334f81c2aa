"""How fast a sweep goes, from what its drivers did and when; downtime and pauses do not count."""

from collections.abc import Sequence

from supersnn.records.driver_session import DriverSession


def epochs_per_second(drivers: Sequence[DriverSession]) -> float | None:
    """Return how many epochs of students are trained a second, in all slots together; None before the first.

    It is the rate of the latest driver that has trained any.
    """
    trained = [session for session in drivers if session.epochs and session.training_seconds > 0]
    return trained[-1].epochs / trained[-1].training_seconds if trained else None


def trials_per_hour(drivers: Sequence[DriverSession]) -> float | None:
    """Return how many trials end an hour of search; None before the first.

    It is the rate of the latest driver under which any has ended.
    """
    ended = [session for session in drivers if session.ended and session.search_seconds > 0]
    return 3600 * ended[-1].ended / ended[-1].search_seconds if ended else None
