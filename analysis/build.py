"""From a sweep's `SweepState` to its tables."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.checks import problems
from analysis.journal import SweepRecord
from analysis.stored import StoredArm
from analysis.tables import LAYERS, LEDGER, PROBLEMS, RANKED, TEACHERS, TRIALS, VERIFIED, Sweep, typed
from supersnn.records.metrics import by_column, judged
from supersnn.records.state import SearchRecord, SweepState, TrialRecord

Row = dict[str, Any]


def build(
    name: str,
    config: Mapping[str, Any],
    record: SweepRecord,
    verified: Mapping[str, StoredArm] | None = None,
    ledger: list[Row] | None = None,
) -> Sweep:
    """Return a sweep's tables.

    Args:
        name: the sweep's name, written into each table.
        config: the sweep file, as `analysis.stored.checked` returns it.
        record: its state and its epochs.
        verified: the arms of `verified.json`, which are only compared with the journal; may be empty.
        ledger: the test ledger's lines, None where it is not known.
    """
    state = record.state
    epochs = record.epochs.drop_duplicates(["arm", "trial", "epoch"])
    epochs = epochs.sort_values(["arm", "trial", "epoch"], ignore_index=True)
    epochs.insert(0, "sweep", name)
    about = _provenance(state)

    def table(rows: Iterable[Row], columns: Mapping[str, str]) -> pd.DataFrame:
        return typed(pd.DataFrame(list(rows)).assign(sweep=name), columns)

    return Sweep(
        trials=_trials(name, state),
        epochs=epochs,
        ranked=table(_ranked(state), RANKED),
        verified=table(_verified(state, config.get("arms") or {}, ledger or []), VERIFIED),
        layers=table(_layers(state), LAYERS),
        teachers=table(_teachers(state), TEACHERS),
        ledger=table(ledger or [], LEDGER),
        problems=table(problems(record, config, verified or {}, ledger), PROBLEMS),
        name=name,
        config=config,
        state=state,
        ended=about["ended"],
        provenance=about,
    )


def constraints(config: Mapping[str, Any]) -> dict[str, float]:
    """Return the upper bounds by metric that a sweep file sets in `search.constraints`."""
    return dict((config.get("search") or {}).get("constraints") or {})


def _trials(name: str, state: SweepState) -> pd.DataFrame:
    """A row for each trial, with its sampled parameters and the metrics that it is judged by."""
    trials = list(state.trials())
    rows = [_trial(trial) | {"arm": arm, **_marks(state.searches[arm], number)} for (arm, number), trial in trials]
    columns = pd.DataFrame(rows).assign(sweep=name)
    metrics = pd.DataFrame([judged(trial.metrics) for _, trial in trials], index=columns.index)
    return typed(pd.concat([columns, metrics.astype("float64")], axis=1), TRIALS)


def _trial(trial: TrialRecord) -> Row:
    state, _, reason = (trial.end or "running").partition(":")
    return {
        **{name: value for name, value in trial.params.items() if "." in name},
        "trial": trial.number,
        "state": state,
        "reason": reason or None,
        "epochs": trial.epochs,
        "value": trial.value,
        "feasible": trial.feasible,
        "eligible": trial.eligible,
        "started": trial.started,
        "ended": trial.ended,
        "seconds": trial.seconds if trial.epochs else None,
        "seed": trial.seed,
        "dataset": trial.dataset,
        "student": trial.student,
        "student_family": trial.student_family,
        "teacher": trial.teacher,
        "teacher_family": trial.teacher_family,
        "pairing": trial.pairing,
    }


def _marks(arm: SearchRecord, number: int) -> Row:
    return {"best": arm.best == number, "winner": arm.verified_trial == number}


def _ranked(state: SweepState) -> Iterator[Row]:
    """A row for each training that ranked a candidate."""
    for arm in state.searches.values():
        for runs in arm.ranked.values():
            yield from (run.model_dump(include=set(RANKED)) for run in runs.values())


def _verified(state: SweepState, arms: Iterable[str], ledger: Iterable[Row]) -> Iterator[Row]:
    """A row for each fresh seed, in the order of `arms`, then by trial and seed."""
    images = {line["purpose"]: line["count"] for line in ledger}
    for arm in (state.searches[name] for name in dict.fromkeys([*arms, *state.searches]) if name in state.searches):
        winner = arm.verified_trial
        for number in sorted(arm.verified):
            trial, won = arm.trials.get(number), number == winner
            about = {} if trial is None else {
                "dataset": trial.dataset, "student": trial.student, "teacher": trial.teacher, "pairing": trial.pairing,
                "search_value": trial.value,
            }  # fmt: skip
            if won and arm.winner is not None and arm.winner.value is not None:
                about["search_value"] = arm.winner.value
            for seed in sorted(arm.verified[number]):
                run = arm.verified[number][seed]
                yield {"arm": arm.name, "trial": number, "seed": seed, "winner": won, **about,
                       "seconds": run.seconds, **by_column(run.metrics), "ended": run.ended,
                       "images": images.get(f"verify {arm.name}/{number}/{seed}")}  # fmt: skip


def _layers(state: SweepState) -> Iterator[Row]:
    """A row for each verified seed and spiking layer, in the network's order."""
    for arm in state.searches.values():
        for runs in arm.verified.values():
            for run in runs.values():
                for position, (layer, rate) in enumerate((run.rates or {}).items()):
                    yield {"arm": run.arm, "trial": run.trial, "seed": run.seed,
                           "position": position, "layer": layer, "rate": rate}  # fmt: skip


def _teachers(state: SweepState) -> Iterator[Row]:
    """A row for each trained teacher with the seconds that its cache took, refitted ones last."""
    for teacher in state.teachers.values():
        facts = teacher.model_dump(include=set(TEACHERS))
        yield facts | {"bank_seconds": state.cache_seconds(teacher.name), "refitted": False}
    for digest, refitted in state.refitted.items():
        if digest not in state.teachers:
            yield refitted.model_dump(include=set(TEACHERS)) | {"refitted": True}


def _provenance(state: SweepState) -> dict[str, Any]:
    latest = state.drivers[-1] if state.drivers else None
    images = {} if state.data is None else {"train": state.data.train, "validation": state.data.validation}
    return {
        "code": latest and latest.code,
        "versions": dict(latest.versions) if latest else {},
        "split": state.split,
        "images": {part: count for part, count in images.items() if count is not None},
        "started": state.drivers[0].began if latest else None,
        "updated": state.updated,
        "drivers": len(state.drivers),
        "ended": latest and latest.end,
    }
