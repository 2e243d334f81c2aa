"""Figures of the search: best so far, the expected best of n, learning curves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.budget import By
from analysis.figures.style import by_arm, figure, log_axis
from analysis.sentences import heading, listed
from analysis.tables import best_first
from supersnn.records.metrics import METRICS, VAL_ACCURACY

CURVES = 16
"""Maximal number of learning curves drawn for each arm besides its best."""


def best_so_far(progress: pd.DataFrame, by: By = "trials", arms: Sequence[str] = ()) -> go.Figure:
    """Return each arm's best validation accuracy so far against the number of trials, or against compute."""
    known = progress.dropna(subset=["best"])
    ends = listed(f"{arm} {100 * part['best'].iloc[-1]:.2f} %" for arm, part, _ in by_arm(known, arms))
    unit, size = _unit(progress["compute"].max()) if by == "compute" else ("trials", 1.0)
    x = "trials ended" if by == "trials" else f"compute, {unit}"
    fig = figure(
        f"Best validation accuracy so far against {by}. At the end: {ends}.", x=x, y="best validation accuracy, %"
    )
    for arm, part, style in by_arm(known, arms):
        rises = _rises(part)
        position = rises["order"] if by == "trials" else rises["compute"] / size
        fig.add_scatter(
            x=position.tolist(), y=(100 * rises["best"]).tolist(), name=arm, mode="lines",
            line={"color": style.colour, "width": 2.5, "shape": "hv", "dash": style.dash},
            hovertemplate=f"{arm}, %{{x:.3~g}} {unit}: %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    return fig


def expected_best(curves: pd.DataFrame, arms: Sequence[str] = ()) -> go.Figure:
    """Return the expected best of n trials of each arm, with the central 80 % of searches."""
    ends = listed(f"{arm} {100 * part['expected'].iloc[-1]:.2f} %" for arm, part, _ in by_arm(curves, arms))
    fig = figure(f"Expected best validation accuracy of n trials. At the largest n: {ends}.",
                 x="n, trials", y="expected best of n, %")  # fmt: skip
    for arm, part, style in by_arm(curves, arms):
        n = part["n"].tolist()
        band = [*(100 * part["low"]), *(100 * part["high"])[::-1]]
        fig.add_scatter(x=n + n[::-1], y=band, fill="toself", fillcolor=style.faint(0.12), line={"width": 0},
                        hoverinfo="skip", showlegend=False, mode="lines", legendgroup=arm)  # fmt: skip
        fig.add_scatter(
            x=n, y=(100 * part["expected"]).tolist(), name=arm, mode="lines", legendgroup=arm,
            line={"color": style.colour, "width": 2.5, "dash": style.dash},
            hovertemplate=f"{arm}, best of %{{x}}: %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    log_axis("xaxis", fig, 1, float(curves["n"].max()))
    low, high = 100 * float(curves["expected"].min()), 100 * float(curves["high"].max())
    fig.update_yaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])
    return fig


def learning_curves(
    epochs: pd.DataFrame, trials: pd.DataFrame, metric: str = VAL_ACCURACY.key, arms: Sequence[str] = ()
) -> go.Figure:
    """Return a metric against epochs: thick each arm's winner (or best trial), thin a sample of its others."""
    known = METRICS.get(metric)
    scale = 100 if known and known.unit == "fraction" else 1
    title, label = (known.title, heading(known)) if known else (metric, metric)
    names = listed(arm for arm, _, _ in by_arm(trials, arms))
    fig = figure(f"{title} by epoch for {names}: thick each arm's winner or best trial, thin a sample of its others.",
                 x="epoch", y=label)  # fmt: skip
    for arm, part, style in by_arm(trials, arms):
        ranked = best_first(part)
        best = pd.concat([ranked[ranked["winner"]], ranked[ranked["best"]]])["trial"].head(1).tolist()
        sample = ranked["trial"].iloc[np.unique(np.linspace(0, len(ranked) - 1, min(CURVES, len(ranked))).astype(int))]
        own = epochs[(epochs["arm"] == arm) & epochs["trial"].isin([*best, *sample])]
        curves = {trial: curve for trial, curve in own.groupby("trial")}  # noqa: C416 (a GroupBy is no mapping)
        fig.add_scatter(
            x=[x for curve in curves.values() for x in [*curve["epoch"].tolist(), None]],
            y=[y for curve in curves.values() for y in [*(scale * curve[metric]).tolist(), None]],
            mode="lines", line={"color": style.faint(0.28), "width": 1}, hoverinfo="skip", showlegend=False,
            legendgroup=arm,
        )  # fmt: skip
        for trial in best:
            if trial in curves:
                fig.add_scatter(
                    x=curves[trial]["epoch"].tolist(), y=(scale * curves[trial][metric]).tolist(), name=arm,
                    mode="lines" if len(curves[trial]) > 1 else "markers", legendgroup=arm,
                    line={"color": style.colour, "width": 3, "dash": style.dash},
                    hovertemplate=f"{arm}, trial {trial}, epoch %{{x}}: %{{y:.4~g}}<extra></extra>",
                )  # fmt: skip
    return fig


def _unit(seconds: float) -> tuple[str, float]:
    """Return a suitable unit for a duration, and its seconds."""
    return ("hours", 3600.0) if seconds > 7200 else ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)


def _rises(path: pd.DataFrame) -> pd.DataFrame:
    """Return the rows at which the best rose, the first and the last."""
    kept = path["best"].diff().fillna(1.0) > 0
    kept.iloc[-1:] = True
    return path[kept]
