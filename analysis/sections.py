"""The page's chapters for one sweep: which pictures it shows, what is said beside each, and the table behind it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from analysis import budget, compare, frontier, importance, pairings
from analysis.figures import outcomes, parameters, search, tradeoffs
from analysis.sentences import listed
from analysis.tables import Sweep, records

MARGINALS = 4
"""Knobs whose marginals are drawn: those that mattered most in any arm."""
RELATION, THRESHOLD = "loss.relation.weight", "neuron.threshold"


@dataclass(frozen=True)
class Picture:
    """A figure with its title, how to read it, and its data; `wide` ones take the page's whole width.

    One that is not drawn narrower than `least` pixels is scrolled on a narrow screen.
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
    """Pictures that answer one question."""

    key: str
    title: str
    pictures: list[Picture]


def chapters(sweep: Sweep, verdicts: pd.DataFrame, margin: float = compare.MARGIN) -> list[Chapter]:
    """Return the chapters of a sweep's report; a chapter whose data are not there yet is left out."""
    found = [
        Chapter("results", "The arms, verified", list(_results(sweep, verdicts, margin))),
        Chapter("search", "The search", list(_search(sweep))),
        Chapter("teachers", "The teachers", list(_teachers(sweep))),
        Chapter("costs", "Accuracy against cost", list(_costs(sweep))),
        Chapter("parameters", "The parameters", list(_parameters(sweep))),
        Chapter("trials", "The trials", list(_trials(sweep))),
    ]
    return [chapter for chapter in found if chapter.pictures]


def _results(sweep: Sweep, verdicts: pd.DataFrame, margin: float) -> Iterator[Picture]:
    winners = sweep.verified[sweep.verified["winner"] & sweep.verified["test"].notna()]
    if not len(winners):
        return
    seeds = winners[["arm", "trial", "seed", "val", "test", "spike_rate", "synaptic_ops", "energy_nj"]]
    note = "Each point is a fresh seed of the arm's winner; above them their mean and its 95 % interval (Student's t)."
    yield Picture("scores", "Every verified seed", note, outcomes.verified_scores(winners, arms=sweep.arms), seeds)
    if (verdicts["n"] > 0).any():
        note = (f"Mean difference over seeds with its 95 % interval. The grey band is ±{100 * margin:.2g} points: what "
                "lies in it for certain counts as equivalent.")  # fmt: skip
        shown = verdicts.drop(columns=["p_error", "unpaired"])
        drawn = outcomes.verdict_intervals(verdicts, margin, sweep.arms)
        yield Picture("verdicts", "Differences between arms", note, drawn, shown)


def _search(sweep: Sweep) -> Iterator[Picture]:
    path = budget.progress(sweep.trials, sweep.teachers)
    if not path["best"].notna().any():
        return
    note = "Only trials that were trained to the end count, each with its last epoch's validation accuracy."
    shown = path.drop(columns=["sweep"])
    drawn = search.best_so_far(path, "trials", sweep.arms)
    yield Picture("by-trials", "Best so far, by trials", note, drawn, shown, wide=False)
    dear = budget.progress(sweep.trials, sweep.teachers, with_teacher=True)
    note = "Seconds of training; each arm starts at what its teachers and their banks cost."
    drawn = search.best_so_far(dear, "compute", sweep.arms)
    yield Picture("by-compute", "Best so far, by compute", note, drawn, dear.drop(columns=["sweep"]), wide=False)
    curves = budget.expected_best_by_arm(sweep.trials)
    note = ("What n trials of an arm would have found on average, and the band in which four such searches in five "
            "end. Trials are taken in no order, so a sampler that learns does better than its curve.")  # fmt: skip
    drawn = search.expected_best(curves, sweep.arms)
    yield Picture("expected", "Expected best of n trials", note, drawn, curves.drop(columns=["sweep"]), wide=False)
    if "val/accuracy" in sweep.epochs:
        last = sweep.trials[["arm", "trial", "state", "epochs", "value"]]
        drawn = search.learning_curves(sweep.epochs, sweep.trials, arms=sweep.arms)
        note = "Thick: the arm's winner. Thin: some of its other trials, evenly from the best to the worst."
        yield Picture("curves", "Learning curves", note, drawn, last, wide=False)


def _teachers(sweep: Sweep) -> Iterator[Picture]:
    table = pairings.matrix(sweep.trials, sweep.teachers)
    if not (table["teacher"].notna() & table["gain"].notna()).any():
        return
    note = ("Expected best of as many trials as the rarest pairing has, less that of the same student without a "
            "teacher. Points of validation accuracy: chosen, not verified.")  # fmt: skip
    yield Picture("pairings", "Gain by pairing", note, tradeoffs.pairing_matrix(table), table.drop(columns=["sweep"]))


def _costs(sweep: Sweep) -> Iterator[Picture]:
    for cost, title in (("ops/synaptic", "Synaptic operations"), ("energy/nj", "Energy")):
        points = frontier.points(sweep.trials, cost)
        if len(points):
            volumes = frontier.hypervolumes(points)
            front = points.loc[points["front"], ["arm", "trial", "cost", "value"]].sort_values("cost")
            note = "Up and to the left is better. Ringed: the arms' winners. The line: what no other trial beats."
            shares = listed(f"{row['arm']} {100 * row['hypervolume']:.0f} %" for row in records(volumes))
            note += f" Share of the box that each arm's front dominates: {shares}."
            key = cost.replace("/", "-")
            drawn = tradeoffs.pareto(points, cost, sweep.arms)
            yield Picture(key, f"Accuracy against {title.lower()}", note, drawn, front, wide=False)
    if len(sweep.layers):
        means = sweep.layers.groupby(["arm", "place", "layer"], sort=False)["rate"].mean().reset_index()
        note = "From the input to the output; the bars span the verified seeds."
        drawn = outcomes.layer_rates(sweep.layers, sweep.arms)
        yield Picture("layers", "Spike rate by layer", note, drawn, means.drop(columns=["place"]))


def _parameters(sweep: Sweep) -> Iterator[Picture]:
    space = sweep.config.get("space") or {}
    table = importance.importances(sweep.trials, space=space)
    if not len(table):
        return
    note = ("What it takes to be in the best quarter of an arm's finished trials (PED-ANOVA), with the middle 80 % of "
            "bootstrap samples. A parameter left of its upright mark has not been shown to matter.")  # fmt: skip
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
        note = "Median of the finished trials in each bin, and their middle half."
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
        note = "A point a finished trial of the arms that have the relational term; brighter is better."
        shown = points.rename(columns={"x": RELATION, "y": THRESHOLD}).drop(columns=["sweep"])
        yield Picture("landscape", "Relation weight and threshold", note, drawn, shown)
    drawn = parameters.parallel(sweep.trials, importance.parameters(sweep.trials), space, arms=sweep.arms)
    done = sweep.trials[sweep.trials["state"] == "finished"].sort_values("value", ascending=False)
    shown = done[["arm", "trial", "value", *importance.parameters(done)]]
    note = ("A line a finished trial; in colour each arm's best tenth, at most twelve. A parameter that an arm lacks "
            "have interrupts its lines.")  # fmt: skip
    least = 110 * (1 + len(importance.parameters(done)))
    yield Picture("parallel", "All parameters at once", note, drawn, shown, least=least)


def _trials(sweep: Sweep) -> Iterator[Picture]:
    if len(sweep.trials):
        table = (
            sweep.trials.groupby(["arm", "state"], as_index=False, sort=False).size().rename(columns={"size": "trials"})
        )
        note = "Stopped: the arm's own pruner gave up on it. Failed: the trial's alarm is told below."
        yield Picture("outcomes", "How trials ended", note, outcomes.outcomes(sweep.trials, sweep.arms), table)
