"""The page's chapters for one sweep: its pictures, their notes, and their data."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from analysis import budget, compare, frontier, importance, pairings
from analysis.figures import outcomes, parameters, search, tradeoffs
from analysis.sentences import listed
from analysis.tables import Sweep, best_first, records
from supersnn.records.metrics import COSTS

MARGINALS = 4
"""Number of parameters whose marginals are drawn: the most important ones in any arm."""
NO_TRIAL = " A pairing whose trials were all stopped, failed or outside the constraints has no gain, and is named."
UNSHOWN = {"dataset", "datasets", "sweeps", "p_error", "unpaired", "collapsed", "far", "without_far", "freedom",
           "search_sd", "seed_sd", "image_se", "prob_low", "prob_high", "look", "seeds"}  # fmt: skip
"""Columns of the verdicts that the figure's data leaves out; the CSV has all."""
RELATION, THRESHOLD = "loss.relation.weight", "neuron.threshold"


@dataclass(frozen=True)
class Picture:
    """A figure with its title, a note on how to read it, and its data; `wide` ones take the page's full width.

    A narrow screen scrolls a figure of which `least` is the minimal width in pixels.
    """

    key: str
    title: str
    note: str
    figure: go.Figure
    table: pd.DataFrame
    wide: bool = True
    least: int = 0


@dataclass(frozen=True)
class Chapter:
    """The pictures of one question."""

    key: str
    title: str
    pictures: list[Picture]


def chapters(sweep: Sweep, verdicts: pd.DataFrame, margin: float = compare.MARGIN) -> list[Chapter]:
    """Return the chapters of a sweep's report, without those that have no data yet."""
    every = [
        Chapter("results", "The arms, verified", list(_results(sweep, verdicts, margin))),
        Chapter("search", "The search", list(_search(sweep))),
        Chapter("teachers", "The teachers", list(_teachers(sweep))),
        Chapter("costs", "Accuracy against cost", list(_costs(sweep))),
        Chapter("parameters", "The parameters", list(_parameters(sweep))),
        Chapter("trials", "The trials", list(_trials(sweep))),
    ]
    return [chapter for chapter in every if chapter.pictures]


def _results(sweep: Sweep, verdicts: pd.DataFrame, margin: float) -> Iterator[Picture]:
    winners = sweep.verified[sweep.verified["winner"] & sweep.verified["test"].notna()]
    if not len(winners):
        return
    several = sweep.replicates > 1
    search = ["arm", "replicate"] if several else ["arm"]
    seeds = winners[[*search, "trial", "seed", "val", "test", *(cost.column for cost in COSTS)]]
    note = "Each point is a fresh seed of the arm's winner; above them their mean and its 95 % interval (Student's t)."
    if several:
        note = ("Each point is a search: the mean over the fresh seeds of its winner, which are the faint points "
                "beside it. Above them the mean over searches and its 95 % interval (Student's t).")  # fmt: skip
    yield Picture(
        "scores",
        "Every search" if several else "Every verified seed",
        note,
        outcomes.verified_scores(winners, arms=sweep.arms),
        seeds,
    )
    if (verdicts["n"] > 0).any():
        what = "searches" if (verdicts["unit"] == "search").any() else "seeds"
        note = (f"Mean difference over {what} with its 95 % interval. The grey band is ±{100 * margin:.2g} points: a "
                "difference whose 90 % interval is within it counts as equivalent.")  # fmt: skip
        table = verdicts[[name for name in verdicts if name not in UNSHOWN]]
        table = table.rename(columns={"iqm": "iqm_points"})
        drawn = outcomes.verdict_intervals(verdicts, margin, sweep.arms)
        yield Picture("verdicts", "Differences between arms", note, drawn, table)


def _search(sweep: Sweep) -> Iterator[Picture]:
    path = budget.progress(sweep.trials, sweep.teachers)
    hidden = ["sweep", "dataset", *([] if sweep.replicates > 1 else ["replicate"])]
    if not path["best"].notna().any():
        return
    note = "Only eligible trials count: trained to the end, within the constraints; each with its validation accuracy."
    drawn = search.best_so_far(path, "trials", sweep.arms)
    yield Picture("by-trials", "Best so far, by trials", note, drawn, path.drop(columns=hidden), wide=False)
    path = budget.progress(sweep.trials, sweep.teachers, with_teacher=True)
    note = "Seconds of training; each arm starts at the cost of its teachers and their caches."
    drawn = search.best_so_far(path, "compute", sweep.arms)
    yield Picture("by-compute", "Best so far, by compute", note, drawn, path.drop(columns=hidden), wide=False)
    curves = budget.expected_best_by_arm(sweep.trials)
    note = ("The average best of n trials of an arm, and the central 80 % of such searches. A trial that is not "
            "eligible counts as the sweep's worst. Trials are drawn in random order, so a sampler that learns does "
            "better than its curve.")  # fmt: skip
    drawn = search.expected_best(curves, sweep.arms)
    yield Picture("expected", "Expected best of n trials", note, drawn, curves.drop(columns=["sweep"]), wide=False)
    if "val/accuracy" in sweep.epochs:
        last = sweep.trials[
            ["arm", *(["replicate"] if sweep.replicates > 1 else []), "trial", "state", "epochs", "value"]
        ]
        drawn = search.learning_curves(sweep.epochs, sweep.trials, arms=sweep.arms)
        note = "Thick: the arm's winner, or its best trial so far. Thin: a sample of the others, from best to worst."
        yield Picture("curves", "Learning curves", note, drawn, last, wide=False)


def _teachers(sweep: Sweep) -> Iterator[Picture]:
    table = pairings.matrix(sweep.trials, sweep.teachers)
    if not (table["teacher"].notna() & table["direct"].notna()).any():
        return
    note = ("Expected best of as many eligible trials as the rarest pairing has, less that of the same student "
            "without a teacher. Points of validation accuracy on which the search selected.")  # fmt: skip
    note += NO_TRIAL if (table["trials"] == 0).any() else ""
    yield Picture("pairings", "Gain by pairing", note, tradeoffs.pairing_matrix(table),
                  table.drop(columns=["sweep"]), least=260 + 150 * table["student"].nunique())  # fmt: skip


def _costs(sweep: Sweep) -> Iterator[Picture]:
    for cost in COSTS:
        points = frontier.points(sweep.trials, cost.key)
        if len(points):
            volumes = frontier.hypervolumes(points)
            front = points.loc[points["front"], ["arm", "trial", "cost", "value"]].sort_values("cost")
            note = "Eligible trials; up and to the left is better. Ringed: the arms' winners. Line: the Pareto front."
            shares = listed(f"{row['arm']} {100 * row['hypervolume']:.0f} %" for row in records(volumes))
            note += f" Hypervolume, as a share of the box of these trials: {shares}."
            key = cost.key.replace("/", "-")
            drawn = tradeoffs.pareto(points, cost, sweep.arms)
            front = front.rename(columns={"cost": cost.key})
            yield Picture(key, f"Accuracy against {cost.title}", note, drawn, front, wide=False)
    if len(sweep.layers):
        means = sweep.layers.groupby(["arm", "position", "layer"], sort=False)["rate"].mean().reset_index()
        note = "Spikes per time step, from the input to the output; the bars span the verified seeds."
        drawn = outcomes.layer_rates(sweep.layers, sweep.arms)
        yield Picture("layers", "Firing rate by layer", note, drawn, means.drop(columns=["position"]))


def _parameters(sweep: Sweep) -> Iterator[Picture]:
    space = sweep.config.get("space") or {}
    table = importance.importances(sweep.trials, space=space)
    if not len(table):
        return
    note = ("Importance for reaching the best quarter of an arm's eligible trials (PED-ANOVA), with the central 80 % "
            "of bootstrap samples. A parameter left of its vertical mark has not been shown to matter.")  # fmt: skip
    yield Picture(
        "importances",
        "Which parameter mattered",
        note,
        parameters.importances(table, sweep.arms),
        table.drop(columns=["sweep"]),
    )
    for parameter in table.groupby("parameter")["importance"].max().nlargest(MARGINALS).index:
        along = importance.marginals(sweep.trials, parameter)
        values = sweep.trials[parameter].dropna()
        log = bool(pd.api.types.is_numeric_dtype(values)) and importance.logarithmic(values, space.get(parameter))
        drawn = parameters.marginal(along, parameter, log, sweep.arms)
        note = "Median of the eligible trials in each bin, and their quartiles."
        yield Picture(
            f"along-{parameter.replace('.', '-')}",
            f"Along {parameter}",
            note,
            drawn,
            along.drop(columns=["sweep"]),
            wide=False,
        )
    points = importance.landscape(sweep.trials, RELATION, THRESHOLD)
    if len(points):
        drawn = parameters.landscape(points, RELATION, THRESHOLD, sweep.arms)
        note = "Each point is an eligible trial of an arm with the relation loss; brighter is better."
        shown = points.rename(columns={"x": RELATION, "y": THRESHOLD}).drop(columns=["sweep"])
        yield Picture("landscape", "Relation weight and threshold", note, drawn, shown)
    drawn = parameters.parallel(sweep.trials, importance.parameters(sweep.trials), space, arms=sweep.arms)
    eligible = best_first(sweep.trials[sweep.trials["eligible"]])
    shown = eligible[["arm", "trial", "value", *importance.parameters(eligible)]]
    note = ("Each line is an eligible trial; in colour each arm's best tenth, at most twelve. A parameter that an arm "
            "does not have interrupts its lines.")  # fmt: skip
    least = 110 * (1 + len(importance.parameters(eligible)))
    yield Picture("parallel", "All parameters at once", note, drawn, shown, least=least)


def _trials(sweep: Sweep) -> Iterator[Picture]:
    if len(sweep.trials):
        table = (
            sweep.trials.groupby(["arm", "state"], as_index=False, sort=False).size().rename(columns={"size": "trials"})
        )
        note = "Stopped: pruned by the arm's scheduler. Failed: the reasons are listed below."
        yield Picture("outcomes", "How trials ended", note, outcomes.outcomes(sweep.trials, sweep.arms), table)
