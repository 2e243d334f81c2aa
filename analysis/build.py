"""From a sweep's `SweepState` to its tables."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pandas as pd

from analysis.checks import problems
from analysis.journal import SweepRecord
from analysis.look_numbers import LookNumbers, timeline_of
from analysis.questions import question_of
from analysis.stored import StoredArm
from analysis.tables import ANYTIME, LAYERS, LEDGER, PROBLEMS, RANKED, TEACHERS, TRIALS, VERIFIED, Sweep, typed
from supersnn.records.events import TeacherRefitted, TeacherTrained, WinnerVerified
from supersnn.records.metrics import by_column, judged
from supersnn.records.packed import bits_of
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord

Row = dict[str, Any]
_OF_RUN = ("winner", "images", "time", "look", "at_most", "draw")
"""What the rows of `anytime` have from their final run's."""


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
    keys = ["dataset", "replicate", "arm", "trial", "epoch"]
    only = _only_dataset(config, state)
    epochs = record.epochs.assign(dataset=record.epochs["dataset"].fillna(only)).drop_duplicates(keys)
    epochs = epochs.sort_values(keys, ignore_index=True)
    epochs.insert(0, "sweep", name)
    about = _provenance(state)
    question = question_of(config, name)

    def table(rows: Iterable[Row], columns: Mapping[str, str]) -> pd.DataFrame:
        return typed(pd.DataFrame(list(rows)).assign(sweep=name, question=question), columns)

    def plain(rows: Iterable[Row], columns: Mapping[str, str]) -> pd.DataFrame:
        return table(rows, columns).drop(columns="question")

    runs = list(_verified(state, only, config, ledger or []))
    return Sweep(
        trials=_trials(name, question, state, only),
        epochs=epochs,
        ranked=plain(_ranked(state, only), RANKED),
        verified=table(runs, VERIFIED),
        layers=plain(_layers(state, only), LAYERS),
        anytime=table(_anytime(state, only, runs), ANYTIME),
        teachers=plain(_teachers(state, only), TEACHERS),
        ledger=plain(ledger or [], LEDGER),
        problems=plain(problems(record, config, verified or {}, ledger), PROBLEMS),
        name=name,
        config=config,
        state=state,
        ended=about["ended"],
        provenance=about,
    )


def constraints(config: Mapping[str, Any]) -> dict[str, float]:
    """Return the upper bounds by metric that a sweep file sets in `search.constraints`."""
    return dict((config.get("search") or {}).get("constraints") or {})


def _only_dataset(config: Mapping[str, Any], state: SweepState) -> str | None:
    """Return the readable name of the data set of events without a label."""
    if state.datasets:
        return next(iter(state.datasets))
    named = (config.get("dataset") or {}).get("name") or (state.data.dataset if state.data else None)
    return named or next((trial.dataset for _, trial in state.trials() if trial.dataset), None)


def _where(search: SearchRecord, only: str | None) -> Row:
    """Return what a search is, as columns; `only` is the data set without a label."""
    return {"arm": search.arm, "dataset": search.dataset or only, "replicate": search.replicate}


def _trials(name: str, question: str, state: SweepState, only: str | None) -> pd.DataFrame:
    """A row for each trial, with its sampled parameters and the metrics that it is judged by."""
    searches = list(state.searches.values())
    trials = [(search, trial) for search in searches for trial in search.trials.values()]
    rows = [_trial(trial) | _where(search, only) | _marks(search, trial.number) for search, trial in trials]
    columns = pd.DataFrame(rows).assign(sweep=name, question=question)
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
        "gpus": trial.gpus,
        "seed": trial.seed,
        "student": trial.student,
        "student_family": trial.student_family,
        "teacher": trial.teacher,
        "teacher_family": trial.teacher_family,
        "pairing": trial.pairing,
        "attempts": trial.attempts,
    }


def _marks(search: SearchRecord, number: int) -> Row:
    return {"best": search.best == number, "winner": search.verified_trial == number}


def _ranked(state: SweepState, only: str | None) -> Iterator[Row]:
    """A row for each training that ranked a candidate."""
    for search in state.searches.values():
        for runs in search.ranked.values():
            for run in runs.values():
                yield run.model_dump(include=set(RANKED)) | _where(search, only)


def _verified(state: SweepState, only: str | None, config: Mapping[str, Any], ledger: Iterable[Row]) -> Iterator[Row]:
    """A row for each fresh seed, in the order of the arms, then by replicate, trial and seed."""
    images = {line["purpose"]: line["count"] for line in ledger}
    own = timeline_of(state, config)
    looks = LookNumbers([own])
    order = {name: position for position, name in enumerate(config.get("arms") or {})}
    for search in sorted(state.searches.values(), key=lambda one: (order.get(one.arm, len(order)), one.replicate)):
        winner = search.verified_trial
        for number in sorted(search.verified):
            trial, won = search.trials.get(number), number == winner
            about = {} if trial is None else {
                "student": trial.student, "teacher": trial.teacher, "pairing": trial.pairing,
                "search_value": trial.value,
            }  # fmt: skip
            if won and search.winner is not None and search.winner.value is not None:
                about["search_value"] = search.winner.value
            for seed in sorted(search.verified[number]):
                run = search.verified[number][seed]
                yield {**_where(search, only), "trial": number, "seed": seed, "winner": won, **about,
                       "seconds": run.seconds, **by_column(run.metrics), "ended": run.ended,
                       "time": run.time, "look": looks.of(run.time), "at_most": own.at_most(run.time),
                       "right": run.right, "draw": f"{config.get('seed') or 0}, {search.replicate}",
                       "images": images.get(f"verify {search.name}/{number}/{seed}") or _images(run)}  # fmt: skip


def _images(run: WinnerVerified) -> int | None:
    """Return how many images a final run says it was tested on."""
    with suppress(ValueError):
        return bits_of(run.right or "")[0]
    return None


def _layers(state: SweepState, only: str | None) -> Iterator[Row]:
    """A row for each verified seed and spiking layer, in the network's order."""
    for search in state.searches.values():
        for runs in search.verified.values():
            for run in runs.values():
                for position, (layer, rate) in enumerate((run.rates or {}).items()):
                    yield {**_where(search, only), "trial": run.trial, "seed": run.seed,
                           "position": position, "layer": layer, "rate": rate}  # fmt: skip


def _anytime(state: SweepState, only: str | None, runs: Iterable[Row]) -> Iterator[Row]:
    """A row for each way to stop a final run earlier, with what `runs` say about it."""
    keys = ("arm", "dataset", "replicate", "trial", "seed")
    about = {tuple(run[key] for key in keys): run for run in runs}
    for search in state.searches.values():
        for number, finals in search.verified.items():
            for run in finals.values():
                place = {**_where(search, only), "trial": number, "seed": run.seed}
                known = about[tuple(place[key] for key in keys)]
                for point in run.anytime or []:
                    points = {key: point.get(key) for key in ANYTIME if key in point}
                    yield {**points, **place, **{key: known[key] for key in _OF_RUN}}


def _teachers(state: SweepState, only: str | None) -> Iterator[Row]:
    """A row for each trained teacher with the seconds that its cache took, refitted ones last."""

    def facts(teacher: TeacherTrained | TeacherRefitted) -> Row:
        return teacher.model_dump(include=set(TEACHERS)) | {"dataset": teacher.dataset or only}

    for teacher in state.teachers.values():
        seconds = state.cache_seconds(teacher.name, teacher.dataset, teacher.replicate)
        yield facts(teacher) | {"bank_seconds": seconds, "refitted": False}
    for digest, refitted in state.refitted.items():
        if digest not in state.teachers:
            yield facts(refitted) | {"refitted": True}


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
