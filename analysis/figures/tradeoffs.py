"""Figures of what is traded: accuracy against operations or energy, and what each teacher gave each student."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import DIVERGING, INK, by_arm, figure
from analysis.frontier import COSTS
from analysis.sentences import listed
from analysis.tables import records

MOST = 300
"""Trials off the front that are drawn for each arm."""


def pareto(points: pd.DataFrame, cost: str = "ops/synaptic", arms: Sequence[str] = ()) -> go.Figure:
    """Finished trials, accuracy against cost, and the front that no trial beats; the arms' winners are ringed."""
    told = listed(f"{part['front'].sum()} of {arm}" for arm, part, _ in by_arm(points, arms))
    fig = figure(f"Validation accuracy against {COSTS[cost]}. The front that no trial beats holds {told}.",
                 x=COSTS[cost], y="validation accuracy, %", height=420)  # fmt: skip
    for arm, part, look in by_arm(points, arms):
        kept = (part["front"] | part["winner"]).to_numpy(copy=True)
        off = np.flatnonzero(~kept)
        kept[off[np.linspace(0, len(off) - 1, min(MOST, len(off))).astype(int)]] = True
        drawn, small = part[kept], 8 if len(points) < MOST else 6
        fig.add_scatter(
            x=drawn["cost"].tolist(), y=(100 * drawn["value"]).tolist(), mode="markers", name=arm,
            customdata=drawn["trial"],
            marker={"color": look.faint(0.85), "symbol": look.symbol,
                    "size": [12 if won else small for won in drawn["winner"]],
                    "line": {"color": INK, "width": [2 if won else 0 for won in drawn["winner"]]}},
            hovertemplate=f"{arm}, trial %{{customdata}}<br>%{{x:.4~s}}, %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    for _, part in points[points["front"]].sort_values("cost").groupby("sweep", sort=False):
        fig.add_scatter(x=part["cost"].tolist(), y=(100 * part["value"]).tolist(), mode="lines", showlegend=False,
                        line={"color": INK, "width": 1.5, "shape": "hv"}, hoverinfo="skip")  # fmt: skip
    fig.update_xaxes(tickformat="~s")
    return fig


def pairing_matrix(pairings: pd.DataFrame) -> go.Figure:
    """What each teacher gave each student, in points over the same student without a teacher."""
    taught = pairings[pairings["teacher"].notna()].copy()
    several = taught.groupby(["sweep", "student", "teacher"]).size().max() > 1
    taught["row"] = taught["teacher"] + (" · " + taught["arm"] if several else "")
    taught["column"] = taught["student"] + (" · " + taught["sweep"] if taught["sweep"].nunique() > 1 else "")
    rows, columns = list(dict.fromkeys(taught["row"])), list(dict.fromkeys(taught["column"]))
    gain, text = np.full((len(rows), len(columns)), np.nan), np.full((len(rows), len(columns)), "", dtype=object)
    for told in records(taught):
        place = rows.index(told["row"]), columns.index(told["column"])
        gain[place] = 100 * told["gain"]
        text[place] = f"{100 * told['gain']:+.2f}<br>{told['pairing']}, {told['trials']} trials"
    known = records(taught.dropna(subset=["gain"]).nlargest(1, "gain"))
    best = "".join(f" Largest: {t['teacher']} for {t['student']}, {100 * t['gain']:+.2f}." for t in known)
    fig = figure(f"Gain of each student with each teacher, points of validation accuracy over none.{best}",
                 x="student", y="teacher", height=130 + 58 * len(rows))  # fmt: skip
    limit = max(0.5, float(np.abs(gain[np.isfinite(gain)]).max(initial=0.0)))
    fig.add_heatmap(
        z=gain.tolist(), x=columns, y=rows, text=text.tolist(), texttemplate="%{text}",
        textfont={"color": "#1d2126"}, colorscale=DIVERGING,
        zmin=-limit, zmax=limit, xgap=3, ygap=3, hovertemplate="%{y} → %{x}: %{text}<extra></extra>",
        colorbar={"title": {"text": "points"}, "thickness": 10, "outlinewidth": 0},
    )  # fmt: skip
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_xaxes(showgrid=False)
    return fig
