"""The events of a sweep's journal: one frozen model per event. This module is the schema of `journal.jsonl`.

A line of the journal is one event as JSON with the keys ``event`` (its kind), ``time`` (Unix seconds) and the fields
of its model. Fields that a later version adds are ignored here, and so are events of a kind that is not known here:
both stay in the file. Journals of schema 1 (before `SweepStarted.schema_version` existed) are read as well; `upgrade`
converts them.

Fields without a default are always written. Those with a default may be missing: in journals of schema 1, where the
events are rebuilt from an MLflow server, or because they are left out while they have their default (`left_out`).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from supersnn.records.event_base import Event, Located, Seconds
from supersnn.records.failure_events import AttemptFailed, DriverWaits
from supersnn.records.metrics import MEAN, OF_MACHINES, VAL_ACCURACY

SCHEMA = 2
"""The version of the schema that this module writes."""

TrialEnd = Literal["finished", "stopped", "failed"]
"""How a trial ended: with its whole budget, by early stopping, or by an error of its own."""
DriverEnd = Literal["done", "interrupted", "failed"]
"""How a driver ended."""
RequestKind = Literal["enqueue", "retry", "pause", "resume", "stop", "change"]
"""What a person may ask a driver for."""


def _unknown(event: Event, *names: str) -> set[str]:
    """Return those of some fields that are None."""
    return {name for name in names if getattr(event, name) is None}


class SweepStarted(Event):
    """A driver has begun to work on the sweep. `resumed`: another one has before it.

    `sweep_id` is the sweep's identity, which its first driver has made and its studies carry, and `config` a digest of
    what may not change in its configuration. Both are None in journals of versions that had no such fields. `datasets`
    has the labels of the sweep's `datasets` in order, each with a digest of what it stands for; it is empty where the
    sweep has one data set under `dataset`. `replicates` is how many searches each arm has on each data set.
    `plan` has the values, by dotted key, of what decides how many final runs there are and of which trials; it is empty
    in journals of earlier versions. `plugins` identifies the packages of the user's own
    (`supersnn.plugins.identities`). `outdated` are the keys of the sweep file whose changes (`RequestTaken`) no longer
    hold, because the file has another value since.
    """

    event: Literal["sweep"] = "sweep"
    driver: str = ""
    sweep_id: str | None = None
    config: str | None = None
    code: str | None = None
    versions: dict[str, str] = {}
    plugins: dict[str, str] = {}
    resumed: bool = False
    datasets: dict[str, str] = {}
    replicates: int = Field(1, ge=1)
    plan: dict[str, float] = {}
    outdated: list[str] = []
    schema_version: int = Field(1, alias="schema")

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default, as in sweeps with one search an arm."""
        defaults = {"datasets": {}, "replicates": 1, "outdated": []}
        return {name for name, default in defaults.items() if getattr(self, name) == default}


class DatasetSplit(Event):
    """Training images: the fingerprint of their split, and how many images each part has.

    There is one event for each distinct split. `dataset` is the name of the data set, `label` its label in the sweep's
    `datasets` (None as in other events), and `replicate` the first replicate with this split.
    """

    event: Literal["data"] = "data"
    dataset: str | None = None
    split: str | None = None
    train: int | None = None
    validation: int | None = None
    classes: int | None = None
    label: str | None = None
    replicate: int = Field(0, ge=0)

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return {name for name in ("label", "replicate") if not getattr(self, name)}


class _TeacherFacts(Located):
    """What is known of a trained teacher. `seconds` is what its training took.

    `replicate` is the first replicate that has this teacher: the replicates share it where nothing of it varies.
    `took` is for how many seconds a worker of this sweep was at it, None where it was found in the store, and `gpus`
    how many GPUs the worker had; None in earlier versions.
    """

    name: str
    digest: str
    family: str
    parameters: int | None = None
    val_accuracy: float | None = None
    epochs: int | None = None
    seconds: Seconds | None = None
    split: str | None = None
    known_split: bool | None = None
    took: Seconds | None = None
    gpus: float | None = None

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return super().left_out() | _unknown(self, "took", "gpus")


class TeacherTrained(_TeacherFacts):
    """A teacher is ready: trained now, or found in the store."""

    event: Literal["teacher"] = "teacher"


class TeacherRefitted(_TeacherFacts):
    """A winner's teacher, trained again on what the final runs see; `bank_seconds` is what its cache took."""

    event: Literal["refit"] = "refit"
    bank_seconds: Seconds = 0.0


class TeacherCached(Located):
    """A teacher's outputs are cached: for `views` augmented views, `bytes` in all, computed in `seconds`.

    `took` and `gpus` are as a teacher's.
    """

    event: Literal["bank"] = "bank"
    teacher: str
    digest: str
    views: int | None = None
    seconds: Seconds = 0.0
    bytes: int | None = None
    took: Seconds | None = None
    gpus: float | None = None

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return super().left_out() | _unknown(self, "took", "gpus")


class TrialStarted(Located):
    """A trial has been sent to a worker, for the first time or again.

    Trials are numbered from 0 in each search: an arm on a data set in a replicate, see `supersnn.records.searches`.
    `config` is its training by flat dotted keys, `params` the sampled part of it, `resumed_at` the epochs that the
    journal has of it already, `gpus` how many GPUs, or what fraction of one, it takes; None where that is not known.
    `request` is the id of the request (`RequestTaken`) that its values are from.
    """

    event: Literal["start"] = "start"
    arm: str
    trial: int
    config: dict[str, Any]
    params: dict[str, Any] = {}
    resumed_at: int = 0
    gpus: float | None = None
    student_family: str | None = None
    teacher_family: str | None = None
    pairing: str | None = None
    request: str | None = None

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return super().left_out() | ({"request"} if self.request is None else set())


class EpochReported(Located):
    """A trial's epoch (from 1; with several seeds a trial it counts on over them) and its metrics by key.

    Keys that begin with ``mean/`` are means over the trial's seeds so far; see `supersnn.records.metrics.judged`.
    `place` is where the trial runs from this epoch on, in the first epoch of each of its workers: ``node``,
    ``process``, and on a GPU what `supersnn.gpus.gpu_facts` says of it.
    """

    event: Literal["epoch"] = "epoch"
    arm: str
    trial: int
    epoch: int
    metrics: dict[str, float | None]
    place: dict[str, str] | None = None


class TrialEnded(Located):
    """A trial has ended: `end` is ``finished``, ``stopped`` or ``failed:REASON``.

    `value` is the validation accuracy that it is judged by, None where it has none; `feasible` whether its last
    metrics are within the sweep's constraints, None in journals of schema 1 and where they are not known. `node` is the
    machine on which its last attempt has failed, by the name that its workers give in `EpochReported.place`; None where
    that is not known, it was the one of its last epoch, or it has not failed.
    """

    event: Literal["end"] = "end"
    arm: str
    trial: int
    end: str
    epochs: int | None = None
    value: float | None = None
    feasible: bool | None = None
    node: str | None = None

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return super().left_out() | _unknown(self, "node")

    @property
    def state(self) -> TrialEnd:
        """How it ended, without the reason."""
        return end_state(self.end)


class TrialRanked(Located):
    """A candidate for its arm's winner was trained with a ranking seed. `value` is its validation accuracy.

    `gpus` is how many the training took, None in earlier versions.
    """

    event: Literal["ranked"] = "ranked"
    arm: str
    trial: int
    seed: int
    value: float | None = None
    seconds: Seconds = 0.0
    gpus: float | None = None

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return super().left_out() | _unknown(self, "gpus")


class WinnerChosen(Located):
    """An arm's winner. `value` is what the search found."""

    event: Literal["winner"] = "winner"
    arm: str
    trial: int
    value: float | None = None


class WinnerVerified(Located):
    """A winner was trained with a fresh seed and tested.

    `config` is that training by flat dotted keys, `rates` the firing rate by layer, `opened` when the test images were,
    in Unix seconds, `seconds` the training's, `ended` how it ended: ``finished`` or ``failed:REASON``. `anytime` is its
    accuracy and cost after each time step and of early exits (`supersnn.anytime.Point`), None in earlier versions, and
    so is `gpus`, how many the training took. `int8` compares weights of 8 bits with the floats
    (`supersnn.export_formats.int8_format.compared`), None without. `right` says which test images it classified
    correctly (`supersnn.records.packed`), None where that is not known.
    """

    event: Literal["verified"] = "verified"
    arm: str
    trial: int
    seed: int
    config: dict[str, Any] = {}
    metrics: dict[str, float | None]
    rates: dict[str, float] | None = None
    seconds: Seconds | None = None
    opened: float | None = None
    ended: str = "finished"
    anytime: list[dict[str, Any]] | None = None
    int8: dict[str, Any] | None = None
    right: str | None = None
    gpus: float | None = None

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return super().left_out() | _unknown(self, "gpus")


class WinnerExported(Located):
    """An export folder was written, for an arm's winner on a data set or (``overall``) the best arm's again.

    `folder` is relative to the sweep's folder (absolute in journals of schema 1), `seed` is that of the weights, `best`
    names the arm that `overall` is a copy of. `replicate` is the one whose winner it is: the best by validation.
    """

    event: Literal["export"] = "export"
    arm: str
    folder: str
    seed: int
    best: str | None = None


class PrecisionLooked(Event):
    """The driver has looked at how well the differences between arms are known, in a sweep that adds replicates.

    `replicates` are those that have all their final runs, `at_most` how many there may be, `until` the half width, a
    fraction, below which none is added. `half_width` is that of the widest 95 % interval, which is of `a` − `b` on
    `dataset` (its label; None where the sweep has one under `dataset`), None where no interval is finite. `next` is how
    many replicates the sweep has from now on.
    """

    event: Literal["look"] = "look"
    replicates: int
    at_most: int
    until: float
    half_width: float | None = None
    dataset: str | None = None
    a: str | None = None
    b: str | None = None
    next: int


class RequestTaken(Event):
    """A person's request was taken up by the driver. Each has an id, by which it is taken up once.

    `kind` is what was asked for; `searches` names those that it is about (what was named, if it was refused), `trial`
    the one that is retried. `values` are those of an enqueued trial, or of a change by dotted key of the sweep file;
    `before` are the values that the file had for the same keys before they were changed, `config` the digest of what
    may not change otherwise (`SweepStarted.config`) after a change. `asked` is when the request was made, in Unix
    seconds by the clock of that machine, `by` who made it. `refused` is the reason why nothing was changed, None where
    it was.
    """

    event: Literal["request"] = "request"
    id: str
    kind: RequestKind
    searches: list[str] = []
    trial: int | None = None
    values: dict[str, Any] = {}
    before: dict[str, Any] = {}
    config: str | None = None
    by: str | None = None
    asked: float | None = None
    refused: str | None = None


class SweepClosed(Event):
    """A driver has ended in an orderly way; one that was killed leaves no such event."""

    event: Literal["close"] = "close"
    driver: str = ""
    end: DriverEnd


AnyEvent = (
    SweepStarted
    | DatasetSplit
    | TeacherTrained
    | TeacherCached
    | TrialStarted
    | EpochReported
    | AttemptFailed
    | DriverWaits
    | TrialEnded
    | TrialRanked
    | WinnerChosen
    | TeacherRefitted
    | WinnerVerified
    | PrecisionLooked
    | WinnerExported
    | RequestTaken
    | SweepClosed
)
"""An event of any kind, in the order in which a sweep writes them."""

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="event")])


def parse(line: bytes | str) -> AnyEvent | None:
    """Return the event of a journal's line, None where its kind is not known to this version.

    Raises:
        ValueError: the line is not JSON, or lacks a field of its kind; one line that names the first fault.
    """
    try:
        event = _ADAPTER.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            return None
        where = ".".join(map(str, first["loc"][1:]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    return upgrade(event)


def upgrade(event: AnyEvent) -> AnyEvent:
    """Return an event of schema 1 as this schema has it.

    In schema 1 the last epoch of a seed had the means over the trial's seeds under the plain keys, and the seed's own
    accuracy as ``val/seed_accuracy``.
    """
    if not isinstance(event, EpochReported) or _SEED_ACCURACY not in event.metrics:
        return event
    means = {key: value for key, value in event.metrics.items() if key != _SEED_ACCURACY}
    own = means | {VAL_ACCURACY.key: event.metrics[_SEED_ACCURACY]}
    judged = {MEAN + key: value for key, value in means.items() if not key.startswith(OF_MACHINES)}
    return event.model_copy(update={"metrics": own | judged})


def end_state(end: str) -> TrialEnd:
    """Return how a trial ended, without the reason: anything but ``finished`` and ``stopped`` is a failure."""
    return "finished" if end == "finished" else "stopped" if end == "stopped" else "failed"


_SEED_ACCURACY = "val/seed_accuracy"
