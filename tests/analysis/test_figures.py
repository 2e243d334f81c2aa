"""Figures show their tables' values, have a description in words, and keep an arm's style."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis import budget, compare, frontier, importance, load, pairings
from analysis.figures import outcomes, parameters, search, tradeoffs
from analysis.figures.style import OTHERS, USUAL, by_arm, description
from analysis.tables import Sweep

Write = Callable[..., Path]


@pytest.fixture
def sweep(synthetic: Write) -> Sweep:
    return load.sweep(synthetic(trials=24))


def points(fig: go.Figure, name: str) -> list[tuple[Any, Any]]:
    """Return the coordinates of the traces of one name."""
    traces = [trace for trace in fig.data if trace.name == name]
    return [(x, y) for trace in traces for x, y in zip(trace.x, trace.y, strict=True) if x is not None]


def every(sweep: Sweep) -> dict[str, go.Figure]:
    """Return each figure of a sweep by its function's name."""
    path = budget.progress(sweep.trials, sweep.teachers)
    return {
        "verified_scores": outcomes.verified_scores(sweep.verified),
        "verdict_intervals": outcomes.verdict_intervals(compare.verdicts(sweep.verified)),
        "outcomes": outcomes.outcomes(sweep.trials),
        "layer_rates": outcomes.layer_rates(sweep.layers),
        "best_so_far": search.best_so_far(path),
        "by_compute": search.best_so_far(path, "compute"),
        "expected_best": search.expected_best(budget.expected_best_by_arm(sweep.trials)),
        "learning_curves": search.learning_curves(sweep.epochs, sweep.trials),
        "importances": parameters.importances(importance.importances(sweep.trials, repeats=3)),
        "marginal": parameters.marginal(importance.marginals(sweep.trials, "neuron.decay"), "neuron.decay"),
        "by_kind": parameters.marginal(importance.marginals(sweep.trials, "neuron.surrogate"), "neuron.surrogate"),
        "landscape": parameters.landscape(
            importance.landscape(sweep.trials, "loss.relation.weight", "neuron.threshold"), "x", "y"
        ),
        "parallel": parameters.parallel(sweep.trials, importance.parameters(sweep.trials)),
        "pareto": tradeoffs.pareto(frontier.points(sweep.trials)),
        "pairing_matrix": tradeoffs.pairing_matrix(pairings.matrix(sweep.trials, sweep.teachers)),
    }


def test_every_figure_describes_itself_and_draws_something(sweep: Sweep) -> None:
    for name, fig in every(sweep).items():
        assert len(fig.data) > 0, name
        assert len(description(fig)) > 40, name
        assert "nan" not in description(fig).lower(), name
        assert fig.layout.height, name


def test_every_seed_is_drawn(sweep: Sweep) -> None:
    fig = outcomes.verified_scores(sweep.verified)
    for arm, rows in sweep.verified.groupby("arm"):
        assert sorted(x for x, _ in points(fig, str(arm))) == pytest.approx(sorted(100 * rows["test"]))


def test_best_so_far_ends_at_the_best(sweep: Sweep) -> None:
    fig = search.best_so_far(budget.progress(sweep.trials, sweep.teachers))
    for arm, rows in sweep.trials[sweep.trials["eligible"]].groupby("arm"):
        heights = [y for _, y in points(fig, str(arm))]
        assert heights == sorted(heights)
        assert heights[-1] == pytest.approx(100 * rows["value"].max())


def test_front_line_joins_the_points_of_the_front(sweep: Sweep) -> None:
    table = frontier.points(sweep.trials)
    line = next(trace for trace in tradeoffs.pareto(table).data if trace.mode == "lines")
    assert sorted(line.x) == sorted(table.loc[table["front"], "cost"])


def test_parallel_lines_run_through_each_trials_values(sweep: Sweep) -> None:
    fig = parameters.parallel(sweep.trials, ["neuron.threshold"])
    best = sweep.trials[(sweep.trials["arm"] == "direct") & (sweep.trials["state"] == "finished")].nlargest(2, "value")
    done = sweep.trials.loc[sweep.trials["state"] == "finished", "neuron.threshold"]
    low, high = done.min(), done.max()
    expected = (best["neuron.threshold"] - low) / (high - low)
    drawn = [y for x, y in points(fig, "direct") if x == 0]
    assert sorted(drawn) == pytest.approx(sorted(expected), abs=1e-4)


def test_arms_keep_their_look_and_their_order(sweep: Sweep) -> None:
    shuffled = sweep.trials.sample(frac=1.0, random_state=1)
    arms = ["heterogeneous", "direct", "homogeneous"]
    assert [arm for arm, _, _ in by_arm(shuffled, arms)] == arms
    renamed = sweep.trials.assign(arm=sweep.trials["arm"].replace({"direct": "mine", "homogeneous": "yours"}))
    only = renamed[renamed["arm"] == "yours"]
    styles = {arm: style for arm, _, style in by_arm(renamed, ["mine", "yours"])}
    assert styles == {"mine": OTHERS[0], "yours": OTHERS[1], "heterogeneous": USUAL["heterogeneous"]}
    assert [style for _, _, style in by_arm(only, ["mine", "yours"])] == [OTHERS[1]]


def test_colours_show_on_light_and_on_dark() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(colour: str, background: str) -> float:
        bright, dim = sorted((luminance(colour), luminance(background)), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    for style in [*USUAL.values(), *OTHERS]:
        assert contrast(style.colour, "#fdfdfc") >= 3, style
        assert contrast(style.colour, "#14171a") >= 3, style
