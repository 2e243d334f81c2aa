"""The tables of a sweep: trials, epochs, rankings, verified results, spike rates by layer, teachers, test openings.

Column names carry their kind: `neuron.threshold` (a dot) is a sampled value, `val/accuracy` (a slash) a metric,
anything else is a property of the row. Accuracies are fractions, times seconds, energies nanojoules an image.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from supersnn.errors import UserError

TRIALS = {
    "sweep": "str", "arm": "str", "trial": "int64", "state": "str", "reason": "str", "epochs": "int64",
    "value": "float64", "started": "float64", "ended": "float64", "seconds": "float64", "seed": "float64",
    "dataset": "str", "student": "str", "student_family": "str", "teacher": "str", "teacher_family": "str",
    "pairing": "str", "winner": "bool",
}  # fmt: skip
VERIFIED = {
    "sweep": "str", "arm": "str", "trial": "int64", "seed": "int64", "val": "float64", "test": "float64",
    "search_value": "float64", "spike_rate": "float64", "synaptic_ops": "float64", "energy_nj": "float64",
    "seconds": "float64", "dataset": "str", "student": "str", "teacher": "str", "pairing": "str", "winner": "bool",
}  # fmt: skip
RANKED = {
    "sweep": "str",
    "arm": "str",
    "trial": "int64",
    "seed": "int64",
    "value": "float64",
    "seconds": "float64",
}
TEACHERS = {  # `again`: fitted anew for the final trainings, which see more images than the search
    "sweep": "str", "name": "str", "digest": "str", "family": "str", "parameters": "float64",
    "val_accuracy": "float64", "epochs": "float64", "seconds": "float64", "bank_seconds": "float64", "split": "str",
    "again": "bool",
}  # fmt: skip
LEDGER = {"sweep": "str", "time": "float64", "dataset": "str", "purpose": "str", "count": "float64"}
LAYERS = {
    "sweep": "str",
    "arm": "str",
    "trial": "int64",
    "seed": "int64",
    "place": "int64",
    "layer": "str",
    "rate": "float64",
}
PROBLEMS = {"sweep": "str", "arm": "str", "trial": "float64", "problem": "str"}


@dataclass(frozen=True)
class Tables:
    """The tables of one sweep or of several; each has a column `sweep`. See the module for column names."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    ranked: pd.DataFrame
    verified: pd.DataFrame
    layers: pd.DataFrame
    teachers: pd.DataFrame
    ledger: pd.DataFrame
    problems: pd.DataFrame


@dataclass(frozen=True, repr=False, eq=False)
class Sweep(Tables):
    """One sweep: its tables and where they come from.

    `ended` is the last closing event's `end`, None while a driver is at work; `config` the sweep file as it was
    first given; `provenance` has `code`, `versions`, `split`, `images`, `started`, `updated`, `drivers`.
    """

    name: str
    config: Mapping[str, Any]
    ended: str | None
    provenance: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the sweep was closed as done; what is said of any other holds only so far."""
        return self.ended == "done"

    @property
    def held_out(self) -> bool:
        """Whether the verified trainings left the validation images out, so that `val` tells of images unseen."""
        return (self.config.get("verify") or {}).get("train_on", "train") == "train"

    @property
    def arms(self) -> list[str]:
        """The arms, in the order of the sweep file."""
        known = list(self.config.get("arms") or {})
        seen = dict.fromkeys([*self.trials["arm"], *self.verified["arm"]])
        return known + [arm for arm in seen if arm not in known]

    def __repr__(self) -> str:
        state = "done" if self.complete else f"so far ({self.ended or 'running'})"
        return f"Sweep({self.name!r}, {len(self.trials)} trials, {len(self.verified)} verified, {state})"


@dataclass(frozen=True, repr=False, eq=False)
class SweepCollection(Tables):
    """Several sweeps' tables, one below the other; iterating gives the sweeps."""

    sweeps: tuple[Sweep, ...]

    def __iter__(self) -> Iterator[Sweep]:
        return iter(self.sweeps)

    def __len__(self) -> int:
        return len(self.sweeps)

    def __repr__(self) -> str:
        return f"SweepCollection({', '.join(map(repr, self.sweeps))})"


def collect(sweeps: Iterable[Sweep]) -> SweepCollection:
    """Return the tables of all `sweeps`, concatenated.

    Raises:
        UserError: two sweeps have one name, by which the tables tell them apart.
    """
    parts = tuple(sweeps)
    names = [sweep.name for sweep in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two sweeps are named {twice[0]!r}: the tables could not tell them apart")
    tables = {f.name: pd.concat([getattr(s, f.name) for s in parts], ignore_index=True) for f in fields(Tables)}
    return SweepCollection(**tables, sweeps=parts)


def typed(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the table with at least these columns, first and of these types; what is unknown is missing."""
    found: dict[str, Any] = {}
    for column, kind in columns.items():
        values: Any = frame[column] if column in frame else pd.Series(None, index=frame.index, dtype=object)
        found[column] = pd.to_numeric(values, errors="coerce") if kind == "float64" else values
        found[column] = found[column].astype(kind)
    rest = frame[[column for column in frame.columns if column not in columns]]
    return pd.concat([pd.DataFrame(found, index=frame.index), rest], axis=1)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as mappings from column to value."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]
