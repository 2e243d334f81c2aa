"""One driver of a sweep as the journal's events leave it: its versions, its times, what it has trained."""

from dataclasses import dataclass, field

from supersnn.records.events import DriverEnd


@dataclass(slots=True)
class DriverSession:
    """One driver, times in Unix seconds.

    Attributes:
        driver: its token, `code` its version of this package, `versions` those of the libraries.
        began, last: its first event and its last one so far.
        training: when it began to train students.
        searched: when its last trial ended.
        plan: how many final runs it was to make and of which trials, see `SweepStarted`.
        epochs: how many epochs of students it has trained, final runs included.
        ended: how many trials have ended.
        idle: for how many seconds until `last` all that was left was paused, `paused` whether it still is.
        idle_before, idle_searched: the same until `training` and until `searched`.
        end: how it ended; None while it is at work, and for ever if it was killed.
    """

    driver: str
    code: str | None
    versions: dict[str, str]
    began: float
    last: float
    training: float
    searched: float
    plan: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    ended: int = 0
    idle: float = 0.0
    idle_before: float = 0.0
    idle_searched: float = 0.0
    paused: bool = False
    end: DriverEnd | None = None

    @property
    def training_seconds(self) -> float:
        """For how long it has trained students, final runs included, without pauses."""
        return self.last - self.training - (self.idle - self.idle_before)

    @property
    def search_seconds(self) -> float:
        """How long its search has taken until its last trial ended, without pauses."""
        return self.searched - self.training - (self.idle_searched - self.idle_before)
