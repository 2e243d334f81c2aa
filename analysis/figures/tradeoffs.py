"""Figures of trade-offs: accuracy against a cost of inference, and the gain of each student with each teacher."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import DIVERGING, INK, by_arm, figure
from analysis.sentences import heading, listed
from analysis.tables import records
from supersnn.records.metrics import SYNAPTIC_OPS, Metric

NO_TRIAL = "no finished trial"
MOST = 300
"""Maximal number of trials drawn for each arm besides those on the front."""


def pareto(points: pd.DataFrame, cost: Metric = SYNAPTIC_OPS, arms: Sequence[str] = ()) -> go.Figure:
    """Return eligible trials, accuracy against a cost, and the Pareto front; the arms' winners are ringed."""
    counts = listed(f"{part['front'].sum()} of {arm}" for arm, part, _ in by_arm(points, arms))
    fig = figure(f"Validation accuracy against {cost.title}. Trials on the Pareto front: {counts}.",
                 x=heading(cost), y="validation accuracy, %", height=420)  # fmt: skip
    form, few = (",~f", ",.4~r") if cost.unit else ("~s", ".4~s") if points["cost"].max() >= 1 else ("~g", ".4~g")
    for arm, part, style in by_arm(points, arms):
        kept = (part["front"] | part["winner"]).to_numpy(copy=True)
        off = np.flatnonzero(~kept)
        kept[off[np.linspace(0, len(off) - 1, min(MOST, len(off))).astype(int)]] = True
        drawn, small = part[kept], 8 if len(points) < MOST else 6
        fig.add_scatter(
            x=drawn["cost"].tolist(), y=(100 * drawn["value"]).tolist(), mode="markers", name=arm,
            customdata=drawn["trial"],
            marker={"color": style.faint(0.85), "symbol": style.symbol,
                    "size": [12 if won else small for won in drawn["winner"]],
                    "line": {"color": INK, "width": [2 if won else 0 for won in drawn["winner"]]}},
            hovertemplate=f"{arm}, trial %{{customdata}}<br>%{{x:{few}}}, %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    for _, part in points[points["front"]].sort_values("cost").groupby("sweep", sort=False):
        fig.add_scatter(x=part["cost"].tolist(), y=(100 * part["value"]).tolist(), mode="lines", showlegend=False,
                        line={"color": INK, "width": 1.5, "shape": "hv"}, hoverinfo="skip")  # fmt: skip
    fig.update_xaxes(tickformat=form)
    return fig


def pairing_matrix(pairings: pd.DataFrame) -> go.Figure:
    """Return each student's gain with each teacher, in points over the same student without a teacher."""
    paired = pairings[pairings["teacher"].notna()].copy()
    several = paired.groupby(["sweep", "dataset", "student", "teacher"], dropna=False).size().max() > 1
    paired["row"] = paired["teacher"] + (" · " + paired["arm"] if several else "")
    paired["column"] = paired["student"]
    for name in ("dataset", "sweep"):
        paired["column"] += " · " + paired[name] if paired[name].nunique() > 1 else ""
    rows, columns = list(dict.fromkeys(paired["row"])), list(dict.fromkeys(paired["column"]))
    gain, text = np.full((len(rows), len(columns)), np.nan), np.full((len(rows), len(columns)), "", dtype=object)
    missing: list[tuple[str, str, str]] = []
    for row in records(paired):
        cell = rows.index(row["row"]), columns.index(row["column"])
        gain[cell] = 100 * row["gain"]
        if row["trials"]:
            text[cell] = f"{100 * row['gain']:+.2f}<br>{row['pairing']}, {row['trials']} trials"
        else:
            missing.append((row["row"], row["column"], NO_TRIAL if not row["finished"] else "no feasible trial"))
    known = records(paired.dropna(subset=["gain"]).nlargest(1, "gain"))
    best = "".join(f" Largest: {t['teacher']} for {t['student']}, {100 * t['gain']:+.2f}." for t in known)
    best += "".join(f" {teacher} for {student}: {text}." for teacher, student, text in missing)
    fig = figure(f"Gain of each student with each teacher, points of validation accuracy over none.{best}",
                 x="student", y="teacher", height=130 + 58 * len(rows))  # fmt: skip
    limit = max(0.5, float(np.abs(gain[np.isfinite(gain)]).max(initial=0.0)))
    fig.add_heatmap(
        z=gain.tolist(), x=columns, y=rows, text=text.tolist(), texttemplate="%{text}",
        textfont={"color": "#1d2126"}, colorscale=DIVERGING,
        zmin=-limit, zmax=limit, xgap=3, ygap=3, hovertemplate="%{y} → %{x}: %{text}<extra></extra>",
        colorbar={"title": {"text": "points"}, "thickness": 10, "outlinewidth": 0},
    )  # fmt: skip
    for row_name, column, words in missing:
        fig.add_annotation(x=column, y=row_name, text=words, showarrow=False)
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_xaxes(showgrid=False)
    return fig
