"""How fast a sweep goes and what it has taken, from its events and their times; downtime counts nowhere."""

from dataclasses import dataclass

PREPARING = ("sweep", "data", "teacher", "bank", "start")
"""The events before a driver's first epoch of a student: with the last of them it begins to train students."""


@dataclass
class Session:
    """One driver, in Unix seconds: its first event, its last, when it began to train students, its last trial's end.

    `epochs` of students and `ended` trials are what it came to.
    """

    began: float
    last: float
    training: float
    searched: float
    epochs: int = 0
    ended: int = 0


class Throughput:
    """The drivers of a sweep so far. A rate is that of the latest driver that came to something."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []

    def event(self, event: str, time: float, epochs: int = 0) -> None:
        """Take an event of the journal, its time in Unix seconds, and how many epochs of students it stands for."""
        if event == "sweep" or not self._sessions:
            self._sessions.append(Session(time, time, time, time))
        session = self._sessions[-1]
        session.last = time
        session.epochs += epochs
        if event == "end":
            session.ended, session.searched = session.ended + 1, time
        if event in PREPARING and not session.epochs:
            session.training = time

    def spent(self, now: float | None = None) -> float:
        """Return the seconds in which a driver was at work; `now` where one still is."""
        whole = sum(session.last - session.began for session in self._sessions)
        return whole + (max(0.0, now - self._sessions[-1].last) if now is not None and self._sessions else 0.0)

    def epochs_per_second(self) -> float | None:
        """Return how many epochs of students are trained a second, on all places together; None before the first."""
        trained = [one for one in self._sessions if one.epochs and one.last > one.training]
        return trained[-1].epochs / (trained[-1].last - trained[-1].training) if trained else None

    def trials_per_hour(self) -> float | None:
        """Return how many trials end an hour of search; None before the first."""
        ended = [one for one in self._sessions if one.ended and one.searched > one.training]
        return 3600 * ended[-1].ended / (ended[-1].searched - ended[-1].training) if ended else None
