"""What passes from the run tree to MLflow: runs, and the change that each has yet to be sent."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Run:
    """A run, found by its key or created: `started` in Unix seconds, `tags` those that it is created with."""

    key: str
    name: str
    started: float
    tags: Mapping[str, str]
    parent: "Run | None" = None


class Point(NamedTuple):
    """One value of a metric; `time` in Unix seconds."""

    name: str
    value: float
    time: float
    step: int


class Dataset(NamedTuple):
    """The images a run was trained on: their name, and the fingerprint of the split."""

    name: str
    split: str


class Export(NamedTuple):
    """An exported winner: its folder, and the means of its verification, as fractions.

    `validation` is what winners are compared by, `test` the test accuracy. `name` is the folder's path relative to the
    store, which may be moved; `label` is that of its data set, None where the sweep has one only.
    """

    folder: Path
    validation: float | None
    test: float
    name: str
    label: str | None = None


@dataclass
class Change:
    """The news of one run; `ended` in Unix seconds, `files` are texts by their artifact's name."""

    run: Run
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: Status | None = None
    ended: float | None = None
    dataset: Dataset | None = None
    files: dict[str, str] = field(default_factory=dict)
    exports: list[Export] = field(default_factory=list)

    def add_points(self, values: Mapping[str, float | None], time: float, step: int) -> None:
        """Add one value of each metric, at one time and step; those that are None are left out."""
        self.points += [Point(k, float(v), time, step) for k, v in values.items() if v is not None]

    def set_status(self, status: Status, ended: float | None = None) -> None:
        """Set the run's status; `ended` only where it has ended."""
        self.status, self.ended = status, ended


def params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a mapping's leaves under dotted keys, as params: strings as they are, anything else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in _leaves(values, "")}


def joined(words: Iterable[str]) -> str:
    """Return distinct words in order, as one tag."""
    return ", ".join(sorted(set(words)))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value
