"""Style of all figures: one style for each arm, axes that are readable on light and dark, a description in words."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from analysis.arms import BASELINE, CONTROL, HETEROGENEOUS, HOMOGENEOUS

INK = "#6b7280"
SEQUENTIAL = "Cividis"
DIVERGING = [[0, "#e39a6b"], [0.5, "#eceae6"], [1, "#7fb0e6"]]


class ArmStyle(NamedTuple):
    """An arm's colour, marker symbol and line dash in every figure of a page."""

    colour: str
    symbol: str
    dash: str

    def faint(self, opacity: float) -> str:
        """Return the colour with an opacity."""
        return translucent(self.colour, opacity)


USUAL = {
    BASELINE: ArmStyle("#7d848d", "circle", "dot"),
    HOMOGENEOUS: ArmStyle("#2a78c8", "square", "dash"),
    HETEROGENEOUS: ArmStyle("#d2600f", "diamond", "solid"),
    "logit": ArmStyle("#16876a", "triangle-up", "dashdot"),
    "feature": ArmStyle("#a9559b", "triangle-down", "longdash"),
    CONTROL: ArmStyle("#97790b", "x", "longdashdot"),
}
"""Styles of the usual arms: distinguishable with the common colour blindnesses, and without colour."""
OTHERS = [
    ArmStyle("#5b63c9", "star", "solid"),
    ArmStyle("#0f8299", "pentagon", "dash"),
    ArmStyle("#b8434e", "hexagon", "dot"),
    ArmStyle("#6f8a1e", "cross", "dashdot"),
]


def by_arm(table: pd.DataFrame, arms: Sequence[str] = ()) -> Iterator[tuple[str, pd.DataFrame, ArmStyle]]:
    """Yield each arm of a table with its rows and its style, in the order of `arms`, then of the table.

    With the same `arms` an arm has the same style in all figures of a page.
    """
    present = list(dict.fromkeys(table["arm"]))
    order = list(dict.fromkeys([*arms, *present]))
    unusual = [arm for arm in order if arm not in USUAL]
    for arm in order:
        if arm in present:
            style = USUAL[arm] if arm in USUAL else OTHERS[unusual.index(arm) % len(OTHERS)]
            yield arm, table[table["arm"] == arm], style


def grey(opacity: float) -> str:
    """Return a grey that is visible on light and on dark backgrounds."""
    return translucent("#808691", opacity)


def figure(description: str, x: str = "", y: str = "", height: int = 380, legend: bool = True) -> go.Figure:
    """Return an empty figure with titled axes; `description` is its text alternative."""
    fig = go.Figure()
    faint = grey(0.22)
    axis = {"gridcolor": faint, "zerolinecolor": faint, "linecolor": faint, "ticks": "", "automargin": True}
    titles = [{"title": {"text": text, "standoff": 10, "font": {"size": 13}}} for text in (x, y)]
    fig.update_layout(
        template="none", height=height, margin={"l": 8, "r": 16, "t": 12, "b": 8}, showlegend=legend,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="closest",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK}, meta={"description": description},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}},
        xaxis=axis | titles[0], yaxis=axis | titles[1],
    )  # fmt: skip
    return fig


def description(fig: go.Figure) -> str:
    """Return a figure's text alternative."""
    return str((fig.layout.meta or {}).get("description", ""))


def log_axis(axis: str, fig: go.Figure, low: float, high: float) -> None:
    """Make an axis ("xaxis" or "yaxis") logarithmic, with round ticks in full decimal notation."""
    steps = (1, 2, 5) if high / low < 500 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    shown = [tick for tick in ticks if low / 1.01 <= tick <= high * 1.01]
    fig.layout[axis].update(type="log", tickvals=shown, ticktext=[f"{tick:g}" for tick in shown])


def translucent(colour: str, opacity: float) -> str:
    """Return a `#rrggbb` colour with an opacity."""
    red, green, blue = (int(part, 16) for part in re.findall("..", colour[1:]))
    return f"rgba({red}, {green}, {blue}, {opacity})"
