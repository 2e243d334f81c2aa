"""A trial as the journal's events leave it, and the one definition of the best trial."""

from dataclasses import dataclass, field
from typing import Any

from supersnn.records.events import TrialEnd, TrialStarted, end_state
from supersnn.records.pairing import family, pairing


@dataclass(slots=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: of the trial in its search.
        started: when it was first sent to a worker, in Unix seconds.
        student, teacher: architectures; `teacher` is None without one.
        student_family, teacher_family, pairing: see `supersnn.records.pairing`.
        dataset: name of the data set.
        seed: of its first training.
        epochs_per_seed: the length of one of its trainings.
        params: the sampled values by dotted key.
        epochs: how many epochs the journal has of it.
        metrics: those of its last epoch by key.
        first_seed: those of its first seed's last epoch, where it has trained that to the end.
        seconds: of training.
        end: ``finished``, ``stopped`` or ``failed:REASON``, None before.
        ended: when, in Unix seconds.
        end_epochs: how many epochs its end event states, which `epochs` must equal.
        value: the validation accuracy that it is judged by.
        gpus: how many it takes, None where that is not known.
        kind: what its epochs' seconds depend on: its networks, data and batches.
        node, gpu: where it is, or was trained last, None before its first epoch and where that is not known.
        feasible: whether its last metrics are within the constraints; None before it has ended.
        request: the id of the request that its values are from, see `RequestTaken`.
        starts: how often it was sent to a worker.
        attempts: how many attempts have failed and were repeated, `failure` what the last of them was.
        heard: when it was last sent to a worker, or has reported, in Unix seconds.
        reports: whether it has reported since it was sent: before, it may wait for a node.
    """

    number: int
    started: float
    student: str | None
    student_family: str | None
    teacher: str | None
    teacher_family: str | None
    pairing: str
    dataset: str | None
    seed: int | None
    epochs_per_seed: int | None
    params: dict[str, Any]
    epochs: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    first_seed: dict[str, float | None] | None = None
    seconds: float = 0.0
    gpus: float | None = None
    end: str | None = None
    ended: float | None = None
    end_epochs: int | None = None
    value: float | None = None
    feasible: bool | None = None
    request: str | None = None
    kind: str = ""
    node: str | None = None
    gpu: str | None = None
    starts: int = 0
    attempts: int = 0
    failure: str | None = None
    heard: float | None = None
    reports: bool = False

    @property
    def timed_as(self) -> str:
        """What its epochs' seconds can be compared by: its kind, and its GPU or the part of it."""
        return f"{self.kind} {self.gpu or 'CPU'} {self.gpus}"

    @property
    def state(self) -> TrialEnd | None:
        """How it ended, without the reason; None before."""
        return None if self.end is None else end_state(self.end)

    @property
    def eligible(self) -> bool:
        """Whether it may be its arm's best: trained to the end, within the constraints, with a value."""
        return self.end == "finished" and self.feasible is not False and self.value is not None


def better(trial: TrialRecord, than: TrialRecord | None) -> bool:
    """Return whether an eligible trial is better than another, or is the first; see `rank`.

    This is the one definition of the best trial; the study of a search ranks its trials by `rank` as well.
    """
    if than is None:
        return True
    assert trial.value is not None
    assert than.value is not None
    return rank(trial.value, trial.number) < rank(than.value, than.number)


def rank(value: float, number: int) -> tuple[float, int]:
    """Return what orders trials, the best first: by their values, equal ones by their numbers."""
    return -value, number


def new_trial(event: TrialStarted) -> TrialRecord:
    """Return a new trial; families that the event does not state follow from the architectures' names."""
    student, teacher = event.config.get("student.architecture"), event.config.get("teacher.name")
    student_family = event.student_family or (family(student) if student else None)
    teacher_family = event.teacher_family or (family(teacher) if teacher else None)
    return TrialRecord(
        number=event.trial,
        started=event.time,
        student=student,
        student_family=student_family,
        teacher=teacher,
        teacher_family=teacher_family,
        pairing=event.pairing or pairing(student_family or "", teacher_family),
        dataset=event.config.get("dataset.name"),
        seed=event.config.get("seed"),
        epochs_per_seed=event.config.get("train.epochs"),
        params=event.params,
        request=event.request,
        kind=" ".join(str(event.config.get(key)) for key in _KIND),
    )


_KIND = (
    "student.architecture",
    "student.time_steps",
    "neuron.kind",
    "teacher.name",
    "dataset.name",
    "train.batch_size",
    "train.threads",
    "loss.relation.kind",
    "loss.relation.layers",
)
"""The keys of a training on which the seconds of its epochs depend most."""
