"""What is inconsistent or half-written in a sweep: reported, never dropped in silence."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.journal import Journal

TOLERANCE = 1e-6


def problems(
    journal: Journal,
    config: Mapping[str, Any],
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    verified: pd.DataFrame,
    teachers: pd.DataFrame,
    stored: Mapping[str, Any],
    provenance: Mapping[str, Any],
    complete: bool,
) -> Iterator[dict[str, Any]]:
    """Yield each problem as `{"problem": text}`, with `arm` and `trial` where it is one trial's."""
    yield from ({"problem": fault} for fault in journal.faults)
    yield from _of_trials(journal, trials, epochs, complete)
    yield from _of_verified(config, verified, stored, complete)
    split = provenance["split"]
    for teacher in teachers.itertuples():
        if split and isinstance(teacher.split, str) and teacher.split != split:
            yield {"problem": f"teacher {teacher.name}: trained on split {teacher.split}, the sweep's is {split}"}
    for name in sorted(set(trials["teacher"].dropna()) - set(teachers["name"])):
        yield {"problem": f"teacher {name}: taught trials, but its training is not in the journal"}


def _of_trials(
    journal: Journal, trials: pd.DataFrame, epochs: pd.DataFrame, complete: bool
) -> Iterator[dict[str, Any]]:
    started = pd.MultiIndex.from_frame(trials[["arm", "trial"]])
    for event in journal.events:
        if event["event"] == "end" and (event["arm"], event["trial"]) not in started:
            yield _about(event["arm"], event["trial"], "ended, but its start is not in the journal")
    spans = epochs.groupby(["arm", "trial"])["epoch"].agg(["min", "max", "count"])
    for arm, trial in spans.index.difference(started):
        yield _about(arm, trial, "has epochs, but its start is not in the journal")
    for (arm, trial), span in spans[(spans["min"] != 1) | (spans["max"] != spans["count"])].iterrows():
        missing = int(span["max"] - span["count"])
        yield _about(arm, trial, f"{missing} of its {int(span['max'])} epochs are missing")
    yield from _twice(journal.epochs)
    stated = {(e["arm"], e["trial"]): e.get("epochs") for e in journal.events if e["event"] == "end"}
    for row in trials.itertuples():
        epochs_told = stated.get((row.arm, row.trial))
        if epochs_told is not None and epochs_told != row.epochs:
            yield _about(row.arm, row.trial, f"ended after {epochs_told} epochs, {row.epochs} are in the journal")
        if row.state == "running" and complete:
            yield _about(row.arm, row.trial, "has no end, though the sweep is done")
        if row.state == "finished" and pd.isna(row.value):
            yield _about(row.arm, row.trial, "finished without a value")
    if "val/accuracy" in trials:
        done = trials[(trials["state"] == "finished") & trials["val/accuracy"].notna()]
        for row in done[(done["value"] - done["val/accuracy"]).abs() > TOLERANCE].itertuples():
            yield _about(row.arm, row.trial, f"its value {row.value:.4f} is not its last epoch's val/accuracy")


def _twice(epochs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Epochs that stand twice must say the same, but for the clock."""
    keys = ["arm", "trial", "epoch"]
    twice = epochs[epochs.duplicated(keys, keep=False)]
    steady = [c for c in twice.columns if "/" in c and not c.startswith("time/")]
    if steady and len(twice):
        spread = twice.groupby(keys)[steady].agg(lambda values: values.max() - values.min()).max(axis=1)
        for arm, trial, epoch in spread[spread > TOLERANCE].index:
            yield _about(arm, trial, f"epoch {epoch} stands twice with different metrics; the first one counts")


def _of_verified(
    config: Mapping[str, Any], verified: pd.DataFrame, stored: Mapping[str, Any], complete: bool
) -> Iterator[dict[str, Any]]:
    wanted = (config.get("verify") or {}).get("seeds")
    winners = verified[verified["winner"]]
    for arm in list(config.get("arms") or {}):
        seeds = int((winners["arm"] == arm).sum())
        if complete and wanted is not None and seeds < int(wanted):
            yield {"arm": arm, "problem": f"{seeds} of {wanted} fresh seeds are verified, though the sweep is done"}
    told = verified.set_index(["arm", "trial", "seed"])
    for arm, entry in (stored.get("arms") or {}).items():
        for result in entry.get("results") or []:
            row = told.loc[(arm, int(entry["trial"]), int(result["seed"]))]
            for key in ("val", "test"):
                if key in result and abs(float(row[key]) - float(result[key])) > TOLERANCE:
                    yield _about(arm, entry["trial"], f"seed {result['seed']}: {key} is {row[key]:.4f} in the journal "
                                                      f"and {float(result[key]):.4f} in verified.json")  # fmt: skip
    for row in winners[winners["test"].isna()].itertuples():
        yield _about(row.arm, row.trial, f"seed {row.seed}: verified without a test accuracy")


def _about(arm: Any, trial: Any, problem: str) -> dict[str, Any]:
    return {"arm": str(arm), "trial": int(trial), "problem": problem}
