"""From a sweep's events to its tables: the rules by which a trial, a result, a winner follow from what was written."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.checks import problems
from analysis.journal import Journal
from analysis.tables import LAYERS, LEDGER, PROBLEMS, RANKED, TEACHERS, TRIALS, VERIFIED, Sweep, records, typed

SHORT = {"val": "val/accuracy", "test": "test/accuracy", "spike_rate": "spikes/rate",
         "synaptic_ops": "ops/synaptic", "energy_nj": "energy/nj"}  # fmt: skip
"""A verified result's column → the metric it is."""

Events = dict[str, list[dict[str, Any]]]
"""The journal's events by their kind."""


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
    by_kind: Events = {}
    for event in journal.events:
        by_kind.setdefault(str(event["event"]), []).append(event)
    repeated = journal.epochs.duplicated(["arm", "trial", "epoch"])
    epochs = journal.epochs[~repeated].sort_values(["arm", "trial", "epoch"], ignore_index=True)
    epochs.insert(0, "sweep", name)
    teachers = _teachers(name, by_kind)
    trials = _trials(name, by_kind, epochs, dict(zip(teachers["name"], teachers["family"], strict=True)))
    results = _verified(name, by_kind, verified, trials, config.get("arms") or {})
    winners = set(zip(results.loc[results["winner"], "arm"], results.loc[results["winner"], "trial"], strict=True))
    winners |= {(arm, trial) for arm, (trial, _) in _winners(by_kind, verified).items()}
    won = [pair in winners for pair in zip(trials["arm"], trials["trial"], strict=True)]
    trials["winner"] = pd.Series(won, trials.index, dtype="bool")
    provenance = _provenance(by_kind, journal, teachers)
    found = problems(journal, config, trials, epochs, results, teachers, verified, provenance)
    return Sweep(
        trials=trials,
        epochs=epochs,
        ranked=_ranked(name, by_kind),
        verified=results,
        layers=_layers(name, by_kind, verified),
        teachers=teachers,
        ledger=typed(pd.DataFrame(ledger).assign(sweep=name), LEDGER),
        problems=typed(pd.DataFrame(list(found)).assign(sweep=name), PROBLEMS),
        name=name,
        config=config,
        ended=provenance["ended"],
        provenance=provenance,
    )


def _teachers(name: str, by_kind: Events) -> pd.DataFrame:
    filled: dict[str, float] = {}
    for event in by_kind.get("bank", []):
        filled[event["teacher"]] = filled.get(event["teacher"], 0.0) + float(event.get("seconds") or 0)
    rows: dict[str, dict[str, Any]] = {}
    for event in [*by_kind.get("teacher", []), *by_kind.get("refit", [])]:
        told = {key: value for key, value in event.items() if key in TEACHERS}
        told.setdefault("bank_seconds", filled.get(event["name"], 0.0))
        rows.setdefault(event["digest"], {"sweep": name, **told, "again": event["event"] == "refit"})
    return typed(pd.DataFrame(list(rows.values())), TEACHERS)


def _ranked(name: str, by_kind: Events) -> pd.DataFrame:
    """One row a training that ranked a candidate."""
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for event in by_kind.get("ranked", []):
        told = {key: value for key, value in event.items() if key in RANKED}
        rows.setdefault((event["arm"], int(event["trial"]), int(event["seed"])), {"sweep": name, **told})
    return typed(pd.DataFrame(list(rows.values())), RANKED)


def _trials(name: str, by_kind: Events, epochs: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    ends = {(event["arm"], int(event["trial"])): event for event in by_kind.get("end", [])}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for event in by_kind.get("start", []):
        key = (str(event["arm"]), int(event["trial"]))
        rows.setdefault(key, {"arm": key[0], "trial": key[1], **_trial(event, ends.get(key), families)})
    if not rows:
        return typed(pd.DataFrame(), TRIALS)
    metrics = [column for column in epochs.columns if "/" in column]
    groups = epochs.groupby(["arm", "trial"], sort=False)
    last = groups[metrics].last() if metrics else pd.DataFrame(index=groups.size().index)
    last["epochs"] = groups.size()
    if "time/epoch_s" in metrics:
        last["seconds"] = groups["time/epoch_s"].sum()
    frame = pd.DataFrame(list(rows.values())).join(last, on=["arm", "trial"])
    frame["epochs"] = frame["epochs"].fillna(0)
    if "val/accuracy" in frame:
        frame["value"] = pd.to_numeric(frame["value"], errors="coerce").fillna(frame["val/accuracy"])
    return typed(frame.assign(sweep=name, winner=False), TRIALS)


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


def _winners(by_kind: Events, stored: Mapping[str, Any]) -> dict[str, tuple[int, Any]]:
    """Return arm → (trial, value of the search): the last choice counts."""
    found = {arm: (int(told["trial"]), told.get("search_value")) for arm, told in (stored.get("arms") or {}).items()}
    found |= {event["arm"]: (int(event["trial"]), event.get("value")) for event in by_kind.get("winner", [])}
    return found


def _verified(
    name: str, by_kind: Events, stored: Mapping[str, Any], trials: pd.DataFrame, arms: Iterable[str]
) -> pd.DataFrame:
    """One row a fresh seed, in the order of `arms`; the journal is believed, `verified.json` fills what it lacks."""
    columns = ["arm", "trial", "value", "dataset", "student", "teacher", "pairing"]
    about = {(row["arm"], row["trial"]): row for row in records(trials[columns])}
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for event in by_kind.get("verified", []):
        metrics = event.get("metrics") or {}
        row = {short: metrics.get(metric) for short, metric in SHORT.items()}
        row |= {"seconds": event.get("seconds")} | {k: v for k, v in metrics.items() if k not in SHORT.values()}
        rows.setdefault((str(event["arm"]), int(event["trial"]), int(event["seed"])), row)
    for arm, told in (stored.get("arms") or {}).items():
        for result in told.get("results") or []:
            row = {key: value for key, value in result.items() if key in VERIFIED}
            rows.setdefault((arm, int(told["trial"]), int(result["seed"])), row)
    winners = _winners(by_kind, stored)
    for arm in {arm for arm, _, _ in rows} - set(winners):
        tried = sorted({trial for a, trial, _ in rows if a == arm})
        winners[arm] = (max(tried, key=lambda trial: _value(about.get((arm, trial), {}))), None)
    order = list(dict.fromkeys([*arms, *(arm for arm, _, _ in rows)]))
    full = []
    for (arm, trial, seed), row in rows.items():
        of_trial = dict(about.get((arm, trial), {}))
        searched = of_trial.pop("value", None)
        won = winners[arm][0] == trial
        if won and winners[arm][1] is not None:
            searched = winners[arm][1]
        told = {"sweep": name, "arm": arm, "trial": trial, "seed": seed, "winner": won, "search_value": searched}
        full.append(of_trial | row | told)
    full.sort(key=lambda row: (order.index(row["arm"]), row["trial"], row["seed"]))
    return typed(pd.DataFrame(full), VERIFIED)


def _layers(name: str, by_kind: Events, stored: Mapping[str, Any]) -> pd.DataFrame:
    """One row a verified seed and spiking layer, in the network's order: the share of its steps that spike.

    The journal is believed, `verified.json` fills what it lacks.
    """
    told = [(e["arm"], e["trial"], e["seed"], e.get("rates")) for e in by_kind.get("verified", [])]
    told += [(arm, entry["trial"], result["seed"], result.get("rates"))
             for arm, entry in (stored.get("arms") or {}).items() for result in entry.get("results") or []]  # fmt: skip
    rates: dict[tuple[str, int, int], Mapping[str, float]] = {}
    for arm, trial, seed, found in told:
        if found:
            rates.setdefault((str(arm), int(trial), int(seed)), found)
    rows = [
        {"sweep": name, "arm": arm, "trial": trial, "seed": seed, "place": k, "layer": layer, "rate": rate}
        for (arm, trial, seed), found in rates.items()
        for k, (layer, rate) in enumerate(found.items())
    ]
    return typed(pd.DataFrame(rows), LAYERS)


def _value(row: Mapping[str, Any]) -> float:
    value = row.get("value")
    return float("-inf") if value is None or pd.isna(value) else float(value)


def _provenance(by_kind: Events, journal: Journal, teachers: pd.DataFrame) -> dict[str, Any]:
    openings, marks = by_kind.get("sweep", []), [e for e in journal.events if e["event"] in ("sweep", "close")]
    latest = openings[-1] if openings else {}
    data = by_kind.get("data", [{}])[0]
    splits = [data.get("split"), *teachers["split"]]
    times = [float(event["time"]) for event in journal.events if "time" in event]
    times += [float(journal.epochs["time"].max())] if len(journal.epochs) else []
    return {
        "code": latest.get("code"),
        "versions": latest.get("versions") or {},
        "split": next((split for split in splits if isinstance(split, str)), None),
        "images": {part: data[part] for part in ("train", "validation") if part in data},
        "started": min(times, default=None),
        "updated": max(times, default=None),
        "drivers": len(openings),
        "ended": marks[-1].get("end") if marks and marks[-1]["event"] == "close" else None,
    }
