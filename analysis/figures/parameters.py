"""Figures of the parameters: importances, the score along one or over two, all of them in parallel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import INK, SEQUENTIAL, by_arm, figure, grey, log_axis, translucent
from analysis.importance import logarithmic
from analysis.sentences import listed
from analysis.tables import records

MOST = 300
"""Maximal number of points or lines drawn for each arm; more would hide each other."""


def importances(table: pd.DataFrame, arms: Sequence[str] = ()) -> go.Figure:
    """Return each parameter's share of importance by arm, with the bootstrap's band and the level of chance."""
    order = table.groupby("parameter")["importance"].max().sort_values().index.tolist()
    parts = list(by_arm(table, arms))
    above = {arm: part.loc[part["importance"] > part["chance"], "parameter"] for arm, part, _ in parts}
    important = "; ".join(f"{arm} {listed(parameters) or 'none'}" for arm, parameters in above.items())
    fig = figure(f"Importance of each parameter by arm. Above the level of chance: {important}.",
                 x="share of importance, %", height=120 + len(order) * (16 + 13 * len(parts)))  # fmt: skip
    step = min(0.2, 0.8 / max(1, len(parts)))
    for k, (arm, part, style) in enumerate(parts):
        y = [order.index(parameter) + ((len(parts) - 1) / 2 - k) * step for parameter in part["parameter"]]
        value, low, high = (100 * part[c].to_numpy() for c in ("importance", "low", "high"))
        fig.add_scatter(
            x=100 * part["chance"], y=y, mode="markers", name="level of chance", showlegend=k == 0,
            legendgroup="chance", hoverinfo="skip",
            marker={"symbol": "line-ns-open", "size": 11, "color": translucent(INK, 0.8)},
        )  # fmt: skip
        fig.add_scatter(
            x=value, y=y, mode="markers", name=arm, customdata=part["parameter"],
            marker={"color": style.colour, "symbol": style.symbol, "size": 9},
            error_x={"type": "data", "symmetric": False, "array": np.maximum(high - value, 0),
                     "arrayminus": np.maximum(value - low, 0), "thickness": 1.5, "width": 0},
            hovertemplate=f"{arm}, %{{customdata}}: %{{x:.1f}} %<extra></extra>",
        )  # fmt: skip
    fig.update_yaxes(tickvals=list(range(len(order))), ticktext=order, range=[-0.6, len(order) - 0.4])
    fig.update_xaxes(rangemode="tozero")
    return fig


def marginal(table: pd.DataFrame, parameter: str, log: bool = False, arms: Sequence[str] = ()) -> go.Figure:
    """Return the validation accuracy along one parameter: by arm the median of each bin, and its quartiles."""
    best = {arm: records(part.nlargest(1, "median"))[0]["at"] for arm, part, _ in by_arm(table, arms)}
    peaks = listed(f"{arm} near {at if isinstance(at, str) else f'{at:.3g}'}" for arm, at in best.items())
    fig = figure(
        f"Validation accuracy along {parameter}. Best median: {peaks}.",
        x=parameter,
        y="validation accuracy, %",
        height=300,
    )
    for arm, part, style in by_arm(table, arms):
        median, low, high = (100 * part[c].to_numpy() for c in ("median", "low", "high"))
        fig.add_scatter(
            x=part["at"].tolist(), y=median, name=arm, mode="lines+markers", customdata=part["trials"],
            line={"color": style.colour, "width": 2, "dash": style.dash}, marker={"symbol": style.symbol, "size": 8},
            error_y={"type": "data", "symmetric": False, "array": high - median, "arrayminus": median - low,
                     "thickness": 1, "width": 0},
            hovertemplate=f"{arm}, %{{x:.3~g}}: median %{{y:.2f}} % of %{{customdata}} trials<extra></extra>",
        )  # fmt: skip
    if log:
        log_axis("xaxis", fig, float(table["at"].min()), float(table["at"].max()))
    return fig


def landscape(points: pd.DataFrame, x: str, y: str, arms: Sequence[str] = ()) -> go.Figure:
    """Return the validation accuracy over two parameters: a point for each trial, coloured by score, shaped by arm."""
    best = records(points.nlargest(1, "value"))[0]
    fig = figure(f"Validation accuracy over {x} and {y}. The best trial, {best['arm']}, is at {best['x']:.3g} and "
                 f"{best['y']:.3g} with {100 * best['value']:.2f} %.", x=x, y=y, height=400)  # fmt: skip
    for arm, every, style in by_arm(points, arms):
        part = every.loc[_evenly(every.index)]
        score = (100 * part["value"]).tolist()
        fig.add_scatter(
            x=part["x"].tolist(), y=part["y"].tolist(), mode="markers", name=arm, customdata=score,
            marker={"color": score, "coloraxis": "coloraxis", "symbol": style.symbol, "size": 10,
                    "line": {"width": 0.5, "color": grey(0.9)}},
            hovertemplate=f"{arm}, %{{x:.3~g}}, %{{y:.3~g}}: %{{customdata:.2f}} %<extra></extra>", showlegend=False,
        )  # fmt: skip
        plain = {"symbol": style.symbol, "color": INK, "size": 10}
        fig.add_scatter(x=[None], y=[None], mode="markers", name=arm, marker=plain)
    if logarithmic(points["x"]):
        log_axis("xaxis", fig, float(points["x"].min()), float(points["x"].max()))
    low, high = 100 * points["value"].quantile([0.1, 1.0])
    fig.update_layout(coloraxis={
        "colorscale": SEQUENTIAL, "cmin": float(low), "cmax": float(high),
        "colorbar": {"title": {"text": "val. %"}, "thickness": 10, "outlinewidth": 0},
    })  # fmt: skip
    return fig


def parallel(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    space: Mapping[str, Any] | None = None,
    share: float = 0.1,
    most: int = 12,
    arms: Sequence[str] = (),
) -> go.Figure:
    """Return every eligible trial as a line over its parameters and its score: each arm's best in colour, others grey.

    `share` and `most` bound how many of an arm are in colour.
    """
    done = trials[trials["eligible"]].reset_index(drop=True)
    varied = [parameter for parameter in parameters if done[parameter].nunique() > 1]
    axes = {parameter: _axis(done[parameter], (space or {}).get(parameter)) for parameter in varied}
    axes["validation accuracy"] = _axis(100 * done["value"], {"log": None})
    fig = figure(f"Each eligible trial as a line over {listed(axes)}; in colour the best of each arm.", height=440)
    by = done.groupby("arm")["value"]
    top = by.rank(ascending=False, method="first") <= np.clip(np.ceil(share * by.transform("size")), 1, most)
    heights = np.column_stack([height for height, _ in axes.values()])
    lines = [("the others", done.index[~top], grey(0.22), 1.0)]
    lines += [(arm, part.index, style.faint(0.85), 2.0) for arm, part, style in by_arm(done[top], arms)]
    for name, rows, colour, width in lines:
        drawn = heights[_evenly(rows)]
        fig.add_scatter(
            x=[*range(len(axes)), None] * len(drawn),
            y=[None if np.isnan(v) else round(float(v), 4) for line in drawn for v in [*line, np.nan]],
            mode="lines", name=name, line={"color": colour, "width": width}, hoverinfo="skip",
        )  # fmt: skip
    for position, (_, ticks) in enumerate(axes.values()):
        fig.add_vline(x=position, line={"color": grey(0.6), "width": 1})
        for height, text in ticks:
            fig.add_annotation(
                x=position, y=height, text=text, showarrow=False, xshift=4, xanchor="left", font={"size": 11}
            )
    labels = [
        parameter.replace(".", "<br>.", 1) if "." in parameter else parameter.replace(" ", "<br>") for parameter in axes
    ]
    fig.update_xaxes(tickvals=list(range(len(axes))), ticktext=labels, range=[-0.15, len(axes) - 0.6], showgrid=False,
                     tickangle=0)  # fmt: skip
    fig.update_yaxes(visible=False, range=[-0.04, 1.04])
    fig.update_layout(margin={"l": 48, "r": 24})
    return fig


def _axis(values: pd.Series, parameter: Mapping[str, Any] | None) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return heights in [0, 1] of a parameter's values (NaN for none), and its axis' ticks as (height, text)."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        levels = sorted(values.dropna().astype(str).unique())
        step = {level: (k + 0.5) / len(levels) for k, level in enumerate(levels)}
        heights = np.array([step[str(value)] if pd.notna(value) else np.nan for value in values])
        return heights, [(height, level) for level, height in step.items()]
    numbers = values.to_numpy(dtype=float)
    log = logarithmic(values.dropna(), parameter)
    scaled = np.log(numbers) if log else numbers
    low, high = np.nanmin(scaled), np.nanmax(scaled)
    heights = (scaled - low) / (high - low) if high > low else np.full(len(scaled), 0.5)
    ends = [low, (low + high) / 2, high]
    return np.asarray(heights), [(k / 2, f"{np.exp(end) if log else end:.3g}") for k, end in enumerate(ends)]


def _evenly(index: pd.Index, most: int = MOST) -> pd.Index:
    """Return at most so many entries, evenly from first to last."""
    return index if len(index) <= most else index[np.linspace(0, len(index) - 1, most).astype(int)]
