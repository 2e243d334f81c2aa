"""Figures of results: verified seeds, differences between arms, how trials ended, firing rates by layer."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import compare
from analysis.figures.style import INK, by_arm, figure, grey, translucent
from analysis.sentences import counted, listed, place
from analysis.tables import records

STATES = {"finished": 1.0, "stopped": 0.5, "failed": 0.2, "running": 0.08}
"""The state of a trial → the opacity of its bar."""


def verified_scores(verified: pd.DataFrame, score: str = "test", arms: Sequence[str] = ()) -> go.Figure:
    """Return each arm's final runs on one data set as points, with the mean and its 95 % interval.

    With several searches of an arm their means are points of their own, over which the interval is, and the fresh seeds
    of each are behind it, faint.
    """
    rows = verified[verified["winner"].astype(bool)].dropna(subset=[score])
    summary = {row["arm"]: row for row in records(compare.arms(rows.drop(columns="dataset"), score))}
    means = listed(f"{arm} {100 * row['mean']:.2f} %" for arm, row in summary.items())
    what = "search" if any(row["unit"] == "search" for row in summary.values()) else "verified seed"
    fig = figure(f"Accuracy on the {score} images of every {what}. Means: {means}.",
                 x=f"{score} accuracy, %", height=110 + 62 * len(summary), legend=False)  # fmt: skip
    labels = []
    for position, (arm, part, style) in enumerate(by_arm(rows, arms)):
        labels.append(arm)
        row = summary[arm]
        several = row["unit"] == "search"
        points = part.groupby(["sweep", "replicate"], sort=False)[score].mean().reset_index() if several else part
        values = 100 * points[score].to_numpy()
        offsets = position + 0.16 + _apart(values)
        if several:
            height = dict(zip(zip(points["sweep"], points["replicate"], strict=True), offsets, strict=True))
            at = [height[key] for key in zip(part["sweep"], part["replicate"], strict=True)]
            fig.add_scatter(x=(100 * part[score]).tolist(), y=at, mode="markers", name=arm, hoverinfo="skip",
                            marker={"color": style.faint(0.3), "symbol": style.symbol, "size": 5})  # fmt: skip
        unit = "replicate" if several else "seed"
        fig.add_scatter(
            x=values, y=offsets, mode="markers", name=arm, customdata=points[unit],
            marker={"color": style.faint(0.75), "symbol": style.symbol, "size": 9},
            hovertemplate=f"{arm}, {unit} %{{customdata}}: %{{x:.2f}} %<extra></extra>",
        )  # fmt: skip
        low, high = 100 * row["low"], 100 * row["high"]
        if np.isfinite(low):
            line = {"color": style.colour, "width": 3}
            fig.add_scatter(x=[low, high], y=[position - 0.2] * 2, mode="lines", line=line, hoverinfo="skip")
        fig.add_scatter(
            x=[100 * row["mean"]], y=[position - 0.2], mode="markers", marker={"color": style.colour, "size": 11},
            hovertemplate=f"{arm}, mean of {counted(row)}: %{{x:.2f}} %<br>"
                          f"95 % interval {low:.2f} to {high:.2f}<extra></extra>",
        )  # fmt: skip
    fig.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6], showgrid=False
    )
    return fig


def verdict_intervals(verdicts: pd.DataFrame, margin: float = compare.MARGIN, arms: Sequence[str] = ()) -> go.Figure:
    """Return each comparison's difference with its 95 % interval, zero, and the band that counts as equivalent."""
    rows = [row for row in records(verdicts) if row["n"]]
    several = len({row["dataset"] for row in rows}) > 1
    styles = {arm: style for arm, _, style in by_arm(verdicts.rename(columns={"a": "arm"}), arms)}
    differences = "; ".join(
        f"{row['a']} minus {row['b']}{place(row)} {100 * row['difference']:+.2f}, {row['verdict']}" for row in rows
    )
    fig = figure(f"Differences in points of test accuracy: {differences}.", x="difference, points of test accuracy",
                 height=110 + (62 if several else 46) * len(rows), legend=False)  # fmt: skip
    fig.add_vrect(x0=-100 * margin, x1=100 * margin, fillcolor=grey(0.16), line_width=0, layer="below")
    fig.add_vline(x=0, line={"color": grey(0.8), "width": 1.5})
    for position, row in enumerate(rows):
        style, ends = styles[row["a"]], 100 * np.array([row["low"], row["high"]])
        if np.isfinite(ends).all():
            line = {"color": style.colour, "width": 3}
            fig.add_scatter(x=ends, y=[position] * 2, mode="lines", line=line, hoverinfo="skip")
        fig.add_scatter(
            x=[100 * row["difference"]], y=[position], mode="markers",
            marker={"color": style.colour, "size": 12, "symbol": style.symbol},
            hovertemplate=f"%{{x:+.2f}} points, 95 % interval {ends[0]:+.2f} to {ends[1]:+.2f}<br>"
                          f"Holm-adjusted p = {row['p']:.3g}, {counted(row)}: {row['verdict']}<extra></extra>",
        )  # fmt: skip
    labels = [f"{row['a']}<br>− {row['b']}" + (f"<br><i>{row['dataset']}</i>" if several else "") for row in rows]
    ends = 100 * np.array([[row["low"], row["high"], row["difference"]] for row in rows])
    low, high = (end(ends, initial=0.0, where=np.isfinite(ends)) for end in (np.min, np.max))
    low, high = min(low, -100 * margin), max(high, 100 * margin)
    fig.update_xaxes(range=[low - 0.06 * (high - low), high + 0.06 * (high - low)])
    fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=labels, range=[len(rows) - 0.5, -0.5], showgrid=False)
    return fig


def outcomes(trials: pd.DataFrame, arms: Sequence[str] = ()) -> go.Figure:
    """Return how many of each arm's trials finished, were stopped early, failed, or are running."""
    counts = {arm: part["state"].value_counts() for arm, part, _ in by_arm(trials, arms)}
    summary = listed(
        f"{arm} {', '.join(f'{count[state]} {state}' for state in STATES if state in count)}"
        for arm, count in counts.items()
    )
    fig = figure(f"How the trials ended: {summary}.", x="trials", height=100 + 44 * len(counts))
    for state, strength in STATES.items():
        ended = [int(count.get(state, 0)) for count in counts.values()]
        if any(ended):
            fig.add_bar(
                x=ended, y=list(counts), orientation="h", name=state, width=0.6,
                marker={"color": translucent(INK, strength), "line": {"color": INK, "width": 1}},
                hovertemplate=f"%{{y}}: %{{x}} {state}<extra></extra>",
            )  # fmt: skip
    fig.update_layout(barmode="stack", legend_traceorder="normal")
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig


def layer_rates(layers: pd.DataFrame, arms: Sequence[str] = ()) -> go.Figure:
    """Return each layer's firing rate in spikes per time step: the mean over verified seeds, and their range."""
    means = listed(f"{arm} {part['rate'].mean():.3f}" for arm, part, _ in by_arm(layers, arms))
    fig = figure(f"Firing rate by layer, from the input to the output. Mean over layers: {means}.", y="firing rate")
    for arm, part, style in by_arm(layers, arms):
        groups = part.sort_values("position").groupby(["position", "layer"], sort=False)["rate"]
        rates = groups.agg(["mean", "min", "max"]).reset_index()
        fig.add_scatter(
            x=rates["layer"].tolist(), y=rates["mean"].tolist(), name=arm, mode="lines+markers",
            line={"color": style.colour, "width": 2}, marker={"symbol": style.symbol, "size": 8},
            error_y={"type": "data", "symmetric": False, "array": (rates["max"] - rates["mean"]).tolist(),
                     "arrayminus": (rates["mean"] - rates["min"]).tolist(), "thickness": 1, "width": 3},
            hovertemplate=f"{arm}, %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    fig.update_yaxes(rangemode="tozero")
    return fig


def _apart(values: np.ndarray) -> np.ndarray:
    """Return deterministic offsets in [-0.14, 0.14] that separate points of nearly equal value."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return ((rank * 0.618034) % 1 - 0.5) * 0.28
