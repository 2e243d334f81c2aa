"""The tables of a sweep and how they follow from its events: trials, epochs, verified results, teachers.

Column names carry their kind: `neuron.threshold` (a dot) is a sampled value, `val/accuracy` (a slash) a metric,
anything else is a property of the row. Accuracies are fractions, times seconds, energies nanojoules an image.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from analysis.journal import Journal

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
TEACHERS = {
    "sweep": "str", "name": "str", "digest": "str", "family": "str", "parameters": "float64",
    "val_accuracy": "float64", "epochs": "float64", "seconds": "float64", "bank_seconds": "float64", "split": "str",
}  # fmt: skip
PROBLEMS = {"sweep": "str", "arm": "str", "trial": "float64", "problem": "str"}
SHORT = {"val": "val/accuracy", "test": "test/accuracy", "spike_rate": "spikes/rate",
         "synaptic_ops": "ops/synaptic", "energy_nj": "energy/nj"}  # fmt: skip
"""A verified result's column → the metric it is."""


@dataclass(frozen=True)
class Tables:
    """The tables of one sweep or of several; each has a column `sweep`. See the module for column names."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    verified: pd.DataFrame
    teachers: pd.DataFrame
    ledger: pd.DataFrame
    problems: pd.DataFrame


@dataclass(frozen=True)
class Sweep(Tables):
    """One sweep: its tables and where they come from.

    `ended` is the last closing event's `end`, None while a driver is at work; `config` the sweep file as it was
    first given; `provenance` has `code`, `versions`, `split`, `started`, `updated`, `drivers`.
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
    def arms(self) -> list[str]:
        """The arms, in the order of the sweep file."""
        known = list(self.config.get("arms") or {})
        seen = dict.fromkeys([*self.trials["arm"], *self.verified["arm"]])
        return known + [arm for arm in seen if arm not in known]


@dataclass(frozen=True)
class Together(Tables):
    """Several sweeps' tables, one below the other; iterating gives the sweeps."""

    sweeps: tuple[Sweep, ...]

    def __iter__(self) -> Iterator[Sweep]:
        return iter(self.sweeps)

    def __len__(self) -> int:
        return len(self.sweeps)


def together(sweeps: Iterable[Sweep]) -> Together:
    """Return the tables of all `sweeps`, concatenated."""
    parts = tuple(sweeps)
    tables = {f.name: pd.concat([getattr(s, f.name) for s in parts], ignore_index=True) for f in fields(Tables)}
    return Together(**tables, sweeps=parts)


def family(architecture: str, teachers: Mapping[str, str] | None = None) -> str:
    """Return an architecture's family: as a teacher of that name states it, else the name's leading letters."""
    stated = (teachers or {}).get(architecture)
    match = re.match(r"[A-Za-z]+", architecture)
    return stated or (match.group(0).lower() if match else architecture)


def build(
    name: str, config: Mapping[str, Any], journal: Journal, verified: Mapping[str, Any], ledger: list[dict[str, Any]]
) -> Sweep:
    """Return a sweep's tables.

    Args:
        name: the sweep's name, written into each table.
        config: the sweep file, as a mapping.
        journal: its events and epochs.
        verified: `verified.json`, or an empty mapping.
        ledger: the test ledger's lines.
    """
    from analysis.checks import problems

    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in journal.events:
        by_kind.setdefault(str(event["event"]), []).append(event)
    repeated = journal.epochs.duplicated(["arm", "trial", "epoch"])
    epochs = journal.epochs[~repeated].sort_values(["arm", "trial", "epoch"], ignore_index=True)
    epochs.insert(0, "sweep", name)
    teachers = _teachers(name, by_kind)
    trials = _trials(name, by_kind, epochs, dict(zip(teachers["name"], teachers["family"], strict=True)))
    results = _verified(name, by_kind, verified, trials)
    winners = set(zip(results.loc[results["winner"], "arm"], results.loc[results["winner"], "trial"], strict=True))
    winners |= {(arm, trial) for arm, (trial, _) in _winners(by_kind, verified).items()}
    trials["winner"] = [pair in winners for pair in zip(trials["arm"], trials["trial"], strict=True)]
    provenance = _provenance(by_kind, journal)
    openings = pd.DataFrame(ledger)
    if not len(openings.columns):
        openings = pd.DataFrame({"time": pd.Series(dtype="float64")})
    openings.insert(0, "sweep", name)
    found = problems(
        journal, config, trials, epochs, results, teachers, verified, provenance, complete=provenance["ended"] == "done"
    )
    faults = typed(({"sweep": name, **fault} for fault in found), PROBLEMS)
    return Sweep(trials, epochs, results, teachers, openings, faults, name, config, provenance["ended"], provenance)


def typed(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return rows as a table with at least these columns, in this order and of these types."""
    frame = pd.DataFrame(list(rows))
    for column in columns:
        if column not in frame:
            frame[column] = None
    frame = frame[[*columns, *(c for c in frame.columns if c not in columns)]]
    for column, kind in columns.items():
        if kind == "float64":
            frame[column] = pd.to_numeric(frame[column], errors="coerce").astype("float64")
        elif kind == "str":
            frame[column] = frame[column].astype("str").where(frame[column].notna())
        else:
            frame[column] = frame[column].astype(kind)
    return frame


def _teachers(name: str, by_kind: Mapping[str, list[dict[str, Any]]]) -> pd.DataFrame:
    seconds: dict[str, float] = {}
    for event in by_kind.get("bank", []):
        seconds[event["teacher"]] = seconds.get(event["teacher"], 0.0) + float(event.get("seconds") or 0)
    rows = {}
    for event in by_kind.get("teacher", []):
        row = {key: value for key, value in event.items() if key in TEACHERS}
        rows.setdefault(event["name"], {"sweep": name, **row, "bank_seconds": seconds.get(event["name"], 0.0)})
    return typed(rows.values(), TEACHERS)


def _trials(
    name: str, by_kind: Mapping[str, list[dict[str, Any]]], epochs: pd.DataFrame, families: Mapping[str, str]
) -> pd.DataFrame:
    ends = {(event["arm"], int(event["trial"])): event for event in by_kind.get("end", [])}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for event in by_kind.get("start", []):
        key = (str(event["arm"]), int(event["trial"]))
        rows.setdefault(key, _trial(event, ends.get(key), families))
    metrics = [column for column in epochs.columns if "/" in column]
    groups = epochs.groupby(["arm", "trial"], sort=False)
    last = groups[metrics].last() if metrics else pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=["arm", "trial"]))
    last["epochs"] = groups.size()
    if "time/epoch_s" in metrics:
        last["seconds"] = groups["time/epoch_s"].sum()
    keys = pd.MultiIndex.from_tuples(list(rows), names=["arm", "trial"]) if rows else last.index[:0]
    frame = pd.DataFrame(list(rows.values()), index=keys).join(last).reset_index()
    frame["epochs"] = frame["epochs"].fillna(0) if rows else []
    if "val/accuracy" in frame:
        frame["value"] = pd.to_numeric(frame["value"], errors="coerce").fillna(frame["val/accuracy"])
    frame["sweep"], frame["winner"] = name, False
    return typed(frame.to_dict("records"), TRIALS) if not rows else _retyped(frame)


def _retyped(frame: pd.DataFrame) -> pd.DataFrame:
    """As `typed`, without the detour over rows: trials are many."""
    for column, kind in TRIALS.items():
        if column not in frame:
            frame[column] = None
        frame[column] = pd.to_numeric(frame[column], errors="coerce") if kind == "float64" else frame[column]
        frame[column] = frame[column].astype(kind).where(frame[column].notna()) if kind == "str" else frame[column].astype(kind)  # fmt: skip
    return frame[[*TRIALS, *(c for c in frame.columns if c not in TRIALS)]].copy()


def _trial(start: dict[str, Any], end: dict[str, Any] | None, families: Mapping[str, str]) -> dict[str, Any]:
    """One row: what was to be trained, and how it ended."""
    state, _, reason = str(end["end"]).partition(":") if end else ("running", "", "")
    value = (end or {}).get("value")
    return {
        "state": state,
        "reason": reason or None,
        "value": value[0] if isinstance(value, list) and value else value,
        "started": start.get("time"),
        "ended": (end or {}).get("time"),
        **_who(start.get("config") or {}, families, start),
        **(start.get("params") or {}),
    }


def _who(config: Mapping[str, Any], families: Mapping[str, str], event: Mapping[str, Any]) -> dict[str, Any]:
    """Who is taught by whom. An event that states families or pairing itself is believed."""
    student, teacher = config.get("student.architecture"), config.get("teacher.name")
    student_family = event.get("student_family") or (family(student, families) if student else None)
    teacher_family = event.get("teacher_family") or (family(teacher, families) if teacher else None)
    same = "homogeneous" if student_family == teacher_family else "heterogeneous"
    return {
        "seed": config.get("seed"),
        "dataset": config.get("dataset.name"),
        "student": student,
        "student_family": student_family,
        "teacher": teacher,
        "teacher_family": teacher_family,
        "pairing": event.get("pairing") or (same if teacher else "none"),
    }


def _winners(by_kind: Mapping[str, list[dict[str, Any]]], stored: Mapping[str, Any]) -> dict[str, tuple[int, Any]]:
    """Return arm → (trial, value of the search): the last choice counts."""
    found = {arm: (int(told["trial"]), told.get("search_value")) for arm, told in (stored.get("arms") or {}).items()}
    found |= {event["arm"]: (int(event["trial"]), event.get("value")) for event in by_kind.get("winner", [])}
    return found


def _verified(
    name: str, by_kind: Mapping[str, list[dict[str, Any]]], stored: Mapping[str, Any], trials: pd.DataFrame
) -> pd.DataFrame:
    """One row a fresh seed; the journal is believed, `verified.json` fills what it lacks."""
    about = trials.set_index(["arm", "trial"])[["value", "dataset", "student", "teacher", "pairing"]]
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for event in by_kind.get("verified", []):
        metrics = event.get("metrics") or {}
        row = {short: metrics.get(metric) for short, metric in SHORT.items()}
        row |= {"seconds": event.get("seconds")} | {k: v for k, v in metrics.items() if k not in SHORT.values()}
        rows.setdefault((str(event["arm"]), int(event["trial"]), int(event["seed"])), row)
    for arm, told in (stored.get("arms") or {}).items():
        for result in told.get("results") or []:
            rows.setdefault((arm, int(told["trial"]), int(result["seed"])), result)
    winners = _winners(by_kind, stored)
    for arm in {arm for arm, _, _ in rows} - set(winners):
        known = sorted({trial for a, trial, _ in rows if a == arm}, key=lambda t: -_value(about, arm, t))
        winners[arm] = (known[0], None)
    full = []
    for (arm, trial, seed), row in rows.items():
        of_trial = about.loc[(arm, trial)].to_dict() if (arm, trial) in about.index else {}
        searched = of_trial.pop("value", None)
        won = winners[arm][0] == trial
        if won and winners[arm][1] is not None:
            searched = winners[arm][1]
        full.append({"sweep": name, "arm": arm, "trial": trial, "winner": won, "search_value": searched,
                     **of_trial, **row, "seed": seed})  # fmt: skip
    return typed(full, VERIFIED).sort_values(["arm", "trial", "seed"], ignore_index=True)


def _value(about: pd.DataFrame, arm: str, trial: int) -> float:
    value = about["value"].get((arm, trial))
    return float("-inf") if value is None or pd.isna(value) else float(value)


def _provenance(by_kind: Mapping[str, list[dict[str, Any]]], journal: Journal) -> dict[str, Any]:
    openings, marks = by_kind.get("sweep", []), [e for e in journal.events if e["event"] in ("sweep", "close")]
    latest = openings[-1] if openings else {}
    times = [float(event["time"]) for event in journal.events if "time" in event]
    times += [float(journal.epochs["time"].max())] if len(journal.epochs) else []
    return {
        "code": latest.get("code"),
        "versions": latest.get("versions") or {},
        "split": latest.get("split"),
        "started": min(times, default=None),
        "updated": max(times, default=None),
        "drivers": len(openings),
        "ended": marks[-1].get("end") if marks and marks[-1]["event"] == "close" else None,
    }
