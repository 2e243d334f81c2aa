"""What is inconsistent or half-written in a sweep: reported, never dropped in silence."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.journal import Journal

TOLERANCE = 1e-6
Problem = dict[str, Any]


def problems(
    journal: Journal,
    config: Mapping[str, Any],
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    verified: pd.DataFrame,
    teachers: pd.DataFrame,
    stored: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Iterator[Problem]:
    """Yield each problem as `{"problem": text}`, with `arm` and `trial` where it is one trial's."""
    complete = provenance["ended"] == "done"
    yield from ({"problem": fault} for fault in journal.faults)
    yield from _of_epochs(journal, trials, epochs)
    yield from _of_trials(journal, trials, complete)
    yield from _of_verified(config, verified, stored, complete)
    first = teachers[~teachers["again"]]
    for name, split in zip(first["name"], first["split"], strict=True):
        if provenance["split"] and isinstance(split, str) and split != provenance["split"]:
            yield {"problem": f"teacher {name}: trained on split {split}, the sweep's is {provenance['split']}"}
    for name in sorted(set(trials["teacher"].dropna()) - set(teachers["name"])):
        yield {"problem": f"teacher {name}: taught trials, but its training is not in the journal"}


def _of_epochs(journal: Journal, trials: pd.DataFrame, epochs: pd.DataFrame) -> Iterator[Problem]:
    started = set(zip(trials["arm"], trials["trial"], strict=True))
    spans = epochs.groupby(["arm", "trial"])["epoch"].agg(["min", "max", "count"]).reset_index()
    for arm, trial, first, last, count in spans.itertuples(index=False):
        if (arm, trial) not in started:
            yield _about(arm, trial, "has epochs, but its start is not in the journal")
        if first != 1 or last != count:
            yield _about(arm, trial, f"{last - count} of its {last} epochs are missing")
    keys = ["arm", "trial", "epoch"]
    twice = journal.epochs[journal.epochs.duplicated(keys, keep=False)]
    steady = [c for c in twice.columns if "/" in c and not c.startswith("time/")]
    if len(twice) and steady:
        groups = twice.groupby(keys)[steady]
        spread = (groups.max() - groups.min()).max(axis=1).reset_index(name="spread")
        for arm, trial, epoch in spread.loc[spread["spread"] > TOLERANCE, keys].itertuples(index=False):
            yield _about(arm, trial, f"epoch {epoch} stands twice with different metrics; the first one counts")


def _of_trials(journal: Journal, trials: pd.DataFrame, complete: bool) -> Iterator[Problem]:
    ends = {(event["arm"], event["trial"]): event for event in journal.events if event["event"] == "end"}
    last = trials["val/accuracy"] if "val/accuracy" in trials else pd.Series(float("nan"), index=trials.index)
    columns = (trials[name] for name in ("arm", "trial", "state", "epochs", "value"))
    for arm, trial, state, count, value, accuracy in zip(*columns, last, strict=True):
        told = ends.pop((arm, trial), {}).get("epochs")
        if told is not None and told != count:
            yield _about(arm, trial, f"ended after {told} epochs, {count} are in the journal")
        if state == "running" and complete:
            yield _about(arm, trial, "has no end, though the sweep is done")
        if state == "finished" and pd.isna(value):
            yield _about(arm, trial, "finished without a value")
        if state == "finished" and abs(value - accuracy) > TOLERANCE:
            yield _about(arm, trial, f"its value {value:.4f} is not its last epoch's val/accuracy {accuracy:.4f}")
    for arm, trial in ends:
        yield _about(arm, trial, "ended, but its start is not in the journal")


def _of_verified(
    config: Mapping[str, Any], verified: pd.DataFrame, stored: Mapping[str, Any], complete: bool
) -> Iterator[Problem]:
    wanted = (config.get("verify") or {}).get("seeds")
    winners = verified[verified["winner"]]
    for arm in config.get("arms") or {}:
        seeds = int((winners["arm"] == arm).sum())
        if complete and wanted is not None and seeds < int(wanted):
            yield {"arm": arm, "problem": f"{seeds} of {wanted} fresh seeds are verified, though the sweep is done"}
    keys = zip(verified["arm"], verified["trial"], verified["seed"], strict=True)
    known = {key: dict(zip(("val", "test"), pair, strict=True))
             for key, pair in zip(keys, verified[["val", "test"]].to_numpy(), strict=True)}  # fmt: skip
    for (arm, trial, seed), row in known.items():
        if pd.isna(row["test"]):
            yield _about(arm, trial, f"seed {seed}: verified without a test accuracy")
    for arm, entry in (stored.get("arms") or {}).items():
        for result in entry.get("results") or []:
            row = known[arm, int(entry["trial"]), int(result["seed"])]
            for key in row.keys() & result.keys():
                if result[key] is not None and abs(row[key] - result[key]) > TOLERANCE:
                    text = f"{key} is {row[key]:.4f} in the journal and {result[key]:.4f} in verified.json"
                    yield _about(arm, entry["trial"], f"seed {result['seed']}: {text}")


def _about(arm: Any, trial: Any, problem: str) -> Problem:
    return {"arm": str(arm), "trial": int(trial), "problem": problem}
