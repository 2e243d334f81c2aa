"""The tables of a sweep: trials, epochs, rankings, verified results, firing rates by layer, teachers, test openings.

`anytime` has verified results after fewer time steps, and with early exits.

A search is an arm on a data set in a replicate: its rows have the same `sweep`, `dataset`, `replicate` and `arm`, and
its trials are numbered from 0. `question` identifies sweeps that differ in their seed and data set alone.

Column names carry their kind: `neuron.threshold` (a dot) is a sampled value, `val/accuracy` (a slash) a metric by its
key in `supersnn.records.metrics`, anything else is a property of the row. Verified results have their metrics under
the registry's columns, as `spike_rate`. Accuracies are fractions, times seconds, energies nanojoules an image.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd

from analysis.look_numbers import LookNumbers, Timeline, timeline_of
from analysis.questions import asked, datasets_of
from supersnn.errors import UserError
from supersnn.records.metrics import COSTS, TEST_ACCURACY, VAL_ACCURACY
from supersnn.records.state import SweepState

TRIALS = {  # `feasible`, `eligible`, `gpus`, `attempts`: as in `TrialRecord`; `best`: its search's best, `winner`: the
    # verified one
    "sweep": "str", "arm": "str", "replicate": "int64", "trial": "int64", "state": "str", "reason": "str",
    "epochs": "int64", "value": "float64", "feasible": "boolean", "eligible": "bool", "started": "float64",
    "ended": "float64", "seconds": "float64", "gpus": "float64", "seed": "float64", "dataset": "str", "student": "str",
    "student_family": "str",
    "teacher": "str", "teacher_family": "str", "pairing": "str", "attempts": "int64", "best": "bool", "winner": "bool",
    "question": "str",
}  # fmt: skip
VERIFIED = {  # `images`: how many it was tested on, if known; `right`: which of them it classified correctly, see
    # `supersnn.records.packed`; `ended`: ``finished`` or ``failed:REASON``; `time`: when, in Unix seconds; `look`: the
    # number of the first look at it, of this sweep alone, or where it was collected with others over all of its
    # question (`analysis.look_numbers`); `at_most`: the most replicates of a sweep that looks after each, else 0;
    # `draw`: the same for searches on several data sets that used the same random numbers, of any sweep
    "sweep": "str", "arm": "str", "replicate": "int64", "trial": "int64", "seed": "int64",
    VAL_ACCURACY.column: "float64",
    TEST_ACCURACY.column: "float64", "search_value": "float64", **{cost.column: "float64" for cost in COSTS},
    "seconds": "float64", "dataset": "str", "student": "str", "teacher": "str", "pairing": "str", "winner": "bool",
    "images": "float64", "ended": "str", "time": "float64", "look": "int64", "at_most": "int64", "right": "str",
    "question": "str", "draw": "str",
}  # fmt: skip
RANKED = {
    "sweep": "str", "arm": "str", "replicate": "int64", "trial": "int64", "seed": "int64", "value": "float64",
    "seconds": "float64", "dataset": "str",
}  # fmt: skip
TEACHERS = {  # `refitted`: trained again for the final runs, which see more images than the search
    "sweep": "str", "name": "str", "digest": "str", "family": "str", "parameters": "float64",
    "val_accuracy": "float64", "epochs": "float64", "seconds": "float64", "bank_seconds": "float64", "split": "str",
    "refitted": "bool", "dataset": "str", "replicate": "int64",
}  # fmt: skip
LEDGER = {"sweep": "str", "time": "float64", "dataset": "str", "purpose": "str", "count": "float64"}
LAYERS = {  # `position` from the input on; `rate`: the share of a layer's time steps with a spike
    "sweep": "str", "arm": "str", "replicate": "int64", "trial": "int64", "seed": "int64", "position": "int64",
    "layer": "str", "rate": "float64", "dataset": "str",
}  # fmt: skip
ANYTIME = {  # a final run's accuracy and cost if it stops earlier: after `at` steps, or at a confidence (`rule`);
    # `winner`, `images`, `time`, `look`, `at_most` and `draw` are the run's, as in `VERIFIED`
    "sweep": "str", "arm": "str", "replicate": "int64", "trial": "int64", "seed": "int64", "rule": "str",
    "at": "float64", "steps": "float64", "accuracy": "float64", "synaptic_ops": "float64", "energy_nj": "float64",
    "dataset": "str", "winner": "bool", "images": "float64", "time": "float64", "look": "int64", "at_most": "int64",
    "question": "str", "draw": "str",
}  # fmt: skip
PROBLEMS = {"sweep": "str", "arm": "str", "trial": "float64", "problem": "str"}


@dataclass(frozen=True)
class Tables:
    """The tables of one sweep or of several; each has a column `sweep`. See the module for column names."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    ranked: pd.DataFrame
    verified: pd.DataFrame
    layers: pd.DataFrame
    anytime: pd.DataFrame
    teachers: pd.DataFrame
    ledger: pd.DataFrame
    problems: pd.DataFrame


@dataclass(frozen=True, repr=False, eq=False)
class Sweep(Tables):
    """One sweep: its tables and their source.

    `config` is the sweep file, `state` what the tables are made from; `ended` how the last driver ended, None while it
    is running or if it was killed; `provenance` has `code`, `versions`, `split`, `images`, `started`, `updated`,
    `drivers`.
    """

    name: str
    config: Mapping[str, Any]
    state: SweepState
    ended: str | None
    provenance: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the sweep was closed as done; the results of any other are preliminary."""
        return self.ended == "done"

    @property
    def held_out(self) -> bool:
        """Whether the final runs did not train on the validation images, so that their `val` is unbiased."""
        return (self.config.get("verify") or {}).get("train_on", "train") == "train"

    @property
    def arms(self) -> list[str]:
        """The arms, in the order of the sweep file."""
        return list(
            dict.fromkeys([*(self.config.get("arms") or {}), *(search.arm for search in self.state.searches.values())])
        )

    @property
    def datasets(self) -> list[str]:
        """The data sets by their readable names, in the order of the sweep file, then of their trials."""
        known = [*datasets_of(self.config), *self.trials["dataset"], *self.verified["dataset"]]
        return list(dict.fromkeys(name for name in known if name))

    @property
    def replicates(self) -> int:
        """The number of replicates that have a trial or a final run."""
        return max(1, *(table["replicate"].nunique() for table in (self.trials, self.verified)))

    def on(self, dataset: str) -> "Sweep":
        """Return the sweep as if this data set were its only one."""
        parts = {name: table[table["dataset"].eq(dataset)].reset_index(drop=True)
                 for name in ("trials", "epochs", "ranked", "verified", "layers", "anytime", "teachers")
                 if "dataset" in (table := getattr(self, name))}  # fmt: skip
        return replace(self, **parts)

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
    """Return the tables of all `sweeps`, concatenated; looks are numbered over all sweeps of a question.

    Raises:
        UserError: two sweeps have the same name, which identifies their rows.
    """
    parts = tuple(sweeps)
    names = [sweep.name for sweep in parts]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two sweeps are named {repeated[0]!r}: expected distinct names, which identify their rows")
    tables = {f.name: pd.concat([getattr(s, f.name) for s in parts], ignore_index=True) for f in fields(Tables)}
    questions = dict(zip(names, asked((sweep.name, sweep.config) for sweep in parts), strict=True))
    for table in ("trials", "verified", "anytime"):
        tables[table]["question"] = tables[table]["sweep"].map(questions).astype("str")
    timelines: dict[str, list[Timeline]] = {}
    for sweep in parts:
        timelines.setdefault(questions[sweep.name], []).append(timeline_of(sweep.state, sweep.config))
    numbers = {question: LookNumbers(own) for question, own in timelines.items()}
    for table in (tables["verified"], tables["anytime"]):
        runs = zip(table["question"], table["time"], strict=True)
        table["look"] = pd.Series([numbers[question].of(time) for question, time in runs], dtype="int64")
    return SweepCollection(**tables, sweeps=parts)


def search_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table whose values identify a search."""
    return [column for column in ("sweep", "dataset", "replicate", "arm") if column in table]


def best_first(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials in the order of `supersnn.records.state.better`, those that are not eligible last."""
    keys, ascending = ["eligible", "value", "trial"], [False, False, True]
    return trials.sort_values(keys, ascending=ascending, na_position="last")


def typed(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the table with at least these columns, first and of these types; unknown values are missing."""
    converted: dict[str, Any] = {}
    for column, kind in columns.items():
        values: Any = frame[column] if column in frame else pd.Series(None, index=frame.index, dtype=object)
        values = pd.to_numeric(values, errors="coerce") if kind == "float64" else values
        converted[column] = values.astype(kind)
    rest = frame[[column for column in frame.columns if column not in columns]]
    return pd.concat([pd.DataFrame(converted, index=frame.index), rest], axis=1)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as mappings from column to value."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]
