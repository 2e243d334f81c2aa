"""Inconsistent or incomplete records of a sweep: reported, never dropped silently."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.journal import SweepRecord
from analysis.stored import StoredArm
from supersnn.records.metrics import OF_MACHINES, TEST_ACCURACY, VAL_ACCURACY, by_column, judged
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState

TOLERANCE = 1e-6
Problem = dict[str, Any]


def problems(
    record: SweepRecord,
    config: Mapping[str, Any],
    stored: Mapping[str, StoredArm],
    openings: Sequence[Mapping[str, Any]] | None,
) -> Iterator[Problem]:
    """Yield each problem as `{"problem": text}`, with `arm` and `trial` where it is one trial's.

    Args:
        record: the sweep's state, its epochs as reported, and the faults of its files.
        config: the sweep file, as a mapping.
        stored: the arms of `verified.json`, or an empty mapping.
        openings: the test ledger, None where it is not known.
    """
    state = record.state
    complete = bool(state.drivers) and state.drivers[-1].end == "done"
    yield from ({"problem": fault} for fault in record.faults)
    yield from _of_starts(state)
    yield from _of_epochs(record.epochs)
    yield from _of_trials(state, complete)
    yield from _of_final_runs(state, config, complete)
    yield from _of_stored(state, stored)
    if openings is not None:
        yield from _of_openings(state, openings)
    yield from _of_teachers(state)


def _of_starts(state: SweepState) -> Iterator[Problem]:
    for arm, trial, kind in sorted(state.orphans):
        yield _about(arm, trial, f"has an {kind} event, but its start is not in the journal")


def _of_epochs(epochs: pd.DataFrame) -> Iterator[Problem]:
    of_trial = ["dataset", "replicate", "arm", "trial"]
    keys = [*of_trial, "epoch"]
    distinct = epochs.drop_duplicates(keys)
    spans = distinct.groupby(of_trial, dropna=False)["epoch"].agg(["max", "count"]).reset_index()
    for *search, trial, last, count in spans.itertuples(index=False):
        if last != count:
            yield _about(_named(*search), trial, f"{last - count} of its {last} epochs are missing")
    repeated = epochs[epochs.duplicated(keys, keep=False)]
    steady = [column for column in repeated.columns if "/" in column and not column.startswith(OF_MACHINES)]
    if len(repeated) and steady:
        groups = repeated.groupby(keys, dropna=False)[steady]
        spread = (groups.max() - groups.min()).max(axis=1).reset_index(name="spread")
        for *search, trial, epoch in spread.loc[spread["spread"] > TOLERANCE, keys].itertuples(index=False):
            yield _about(
                _named(*search), trial, f"epoch {epoch} was reported twice with different metrics; the first one counts"
            )


def _of_trials(state: SweepState, complete: bool) -> Iterator[Problem]:
    for (arm, number), trial in state.trials():
        if trial.end_epochs not in (None, trial.epochs):
            yield _about(arm, number, f"ended after {trial.end_epochs} epochs, {trial.epochs} are in the journal")
        if trial.end is None and complete:
            yield _about(arm, number, "has no end, though the sweep is done")
        if trial.end != "finished":
            continue
        accuracy = judged(trial.metrics).get(VAL_ACCURACY.key)
        if trial.value is None:
            yield _about(arm, number, "finished without a value")
        elif accuracy is not None and not _close(trial.value, accuracy):
            text = f"its value {trial.value:.4f} is not its last epoch's {VAL_ACCURACY.key} {accuracy:.4f}"
            yield _about(arm, number, text)


def _of_final_runs(state: SweepState, config: Mapping[str, Any], complete: bool) -> Iterator[Problem]:
    wanted = (config.get("verify") or {}).get("seeds")
    known = {search.arm for search in state.searches.values()}
    missing = [name for name in config.get("arms") or {} if name not in known]
    done = [(_name(search), len(search.final_runs())) for search in state.searches.values()]
    for name, seeds in (*((name, 0) for name in missing), *done):
        if complete and wanted is not None and seeds < wanted:
            yield {"arm": name, "problem": f"{seeds} of {wanted} fresh seeds are verified, though the sweep is done"}
    for arm in state.searches.values():
        if arm.verified and arm.winner is None:
            yield {"arm": _name(arm), "problem": "has final runs, but no winner in the journal: no export has it"}
        for runs in arm.verified.values():
            for run in runs.values():
                if run.metrics.get(TEST_ACCURACY.key) is None:
                    yield _about(_name(arm), run.trial, f"seed {run.seed}: verified without a test accuracy")


def _of_stored(state: SweepState, stored: Mapping[str, StoredArm]) -> Iterator[Problem]:
    """Compare `verified.json` with the journal."""
    for name, entry in stored.items():
        runs = state.searches[name].verified.get(entry.trial, {}) if name in state.searches else {}
        for result in entry.results:
            if result.seed not in runs:
                yield _about(name, entry.trial, f"seed {result.seed}: in verified.json, but not in the journal")
                continue
            others = result.model_extra or {}
            for column, value in by_column(runs[result.seed].metrics).items():
                other = others.get(column)
                if value is not None and other is not None and not _equal(value, other):
                    text = f"{column} is {value:.4f} in the journal and {_short(other)} in verified.json"
                    yield _about(name, entry.trial, f"seed {result.seed}: {text}")


def _of_openings(state: SweepState, openings: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Compare the number of tested final runs with the ledger's, which has a line for each."""
    tested = [run for arm in state.searches.values() for runs in arm.verified.values() for run in runs.values()
              if run.metrics.get(TEST_ACCURACY.key) is not None]  # fmt: skip
    if len(openings) < len(tested):
        text = f"{len(openings)} openings of the test images, but the journal has {len(tested)} tested final runs"
        yield {"problem": f"test-ledger.jsonl: {text}"}
    sets = {(str(line["dataset"]), int(line["count"])) for line in openings}
    if len(sets) > max(1, len(state.datasets)):
        found = ", ".join(f"{count} of {dataset}" for dataset, count in sorted(sets)[:4])
        yield {"problem": f"test-ledger.jsonl: its lines name different test images: {found}"}


def _of_teachers(state: SweepState) -> Iterator[Problem]:
    for teacher in state.teachers.values():
        split = state.split_of(teacher.dataset, teacher.replicate)
        if split and teacher.split and teacher.split != split:
            text = f"trained on split {teacher.split}, the sweep's is {split}"
            yield {"problem": f"teacher {teacher.name}: {text}"}
    trained = {teacher.name for teacher in [*state.teachers.values(), *state.refitted.values()]}
    used = {trial.teacher for _, trial in state.trials() if trial.teacher is not None}
    cached = {cache.teacher for cache in state.caches.values()}
    for name in sorted(used & trained - cached) if cached else ():
        yield {"problem": f"teacher {name}: its cache is not in the journal, unlike the other teachers'"}
    for name in sorted(used - trained):
        yield {"problem": f"teacher {name}: used by trials, but its training is not in the journal"}


def _name(search: SearchRecord) -> str:
    return _named(search.dataset, search.replicate, search.arm)


def _named(dataset: Any, replicate: int, arm: str) -> str:
    """Return the name of a search: its arm's, with what tells it from the arm's others."""
    where = [str(dataset)] if isinstance(dataset, str) else []
    return ", ".join([arm, *where, *([f"replicate {replicate}"] if replicate else [])])


def _equal(value: float, other: object) -> bool:
    return isinstance(other, int | float) and not isinstance(other, bool) and _close(value, other)


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else repr(value)[:40]


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _about(arm: Any, trial: Any, problem: str) -> Problem:
    return {"arm": str(arm), "trial": int(trial), "problem": problem}
