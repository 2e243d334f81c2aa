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
    ends = listed(f"{arm} {100 * _ends(part).mean():.2f} %" for arm, part, _ in by_arm(known, arms))
    mean = " on average over its searches" if known["replicate"].nunique() > 1 else ""
    unit, size = _unit(progress["compute"].max()) if by == "compute" else ("trials", 1.0)
    x = "trials ended" if by == "trials" else f"compute, {unit}"
    fig = figure(
        f"Best validation accuracy so far against {by}. At the end{mean}: {ends}.", x=x, y="best validation accuracy, %"
    )
    for arm, part, style in by_arm(known, arms):
        searches = [_rises(search) for _, search in part.groupby("replicate", sort=False)]
        few = len(searches) == 1
        for position, rises in enumerate(searches):
            along = rises["order"] if by == "trials" else rises["compute"] / size
            about = arm if few else f"{arm}, replicate {rises['replicate'].iloc[0]}"
            colour = style.colour if few else style.faint(0.55)
            fig.add_scatter(
                x=along.tolist(), y=(100 * rises["best"]).tolist(), name=arm, mode="lines", legendgroup=arm,
                line={"color": colour, "width": 2.5 if few else 1.5, "shape": "hv", "dash": style.dash},
                showlegend=position == 0,
                hovertemplate=f"{about}, %{{x:.3~g}} {unit}: %{{y:.2f}} %<extra></extra>",
            )  # fmt: skip
    return fig


def _ends(path: pd.DataFrame) -> pd.Series:
    """Return the best value at the end of each search."""
    return path.groupby("replicate", sort=False)["best"].last()


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
        first = best_first(pd.concat([ranked[ranked["winner"]], ranked[ranked["best"]]]))
        best = _keys(first.drop_duplicates("replicate") if first["winner"].any() else first.head(1))
        sample = ranked.iloc[np.unique(np.linspace(0, len(ranked) - 1, min(CURVES, len(ranked))).astype(int))]
        shown = {*best, *_keys(sample)}
        own = epochs[(epochs["arm"] == arm) & epochs["trial"].isin({trial for _, trial in shown})]
        curves = {key: curve for key, curve in own.groupby(["replicate", "trial"]) if key in shown}
        fig.add_scatter(
            x=[x for curve in curves.values() for x in [*curve["epoch"].tolist(), None]],
            y=[y for curve in curves.values() for y in [*(scale * curve[metric]).tolist(), None]],
            mode="lines", line={"color": style.faint(0.28), "width": 1}, hoverinfo="skip", showlegend=False,
            legendgroup=arm,
        )  # fmt: skip
        known_best = [key for key in best if key in curves]
        for key in known_best:
            about = f"{arm}, trial {key[1]}" if len(best) == 1 else f"{arm}, replicate {key[0]}, trial {key[1]}"
            fig.add_scatter(
                    x=curves[key]["epoch"].tolist(), y=(scale * curves[key][metric]).tolist(), name=arm,
                    mode="lines" if len(curves[key]) > 1 else "markers", legendgroup=arm,
                    line={"color": style.colour, "width": 3, "dash": style.dash}, showlegend=key == known_best[0],
                    hovertemplate=f"{about}, epoch %{{x}}: %{{y:.4~g}}<extra></extra>",
                )  # fmt: skip
    return fig


def _keys(trials: pd.DataFrame) -> list[tuple[int, int]]:
    """Return the replicate and the number of each trial."""
    return [(int(replicate), int(trial)) for replicate, trial in zip(trials["replicate"], trials["trial"], strict=True)]


def _unit(seconds: float) -> tuple[str, float]:
    """Return a suitable unit for a duration, and its seconds."""
    return ("hours", 3600.0) if seconds > 7200 else ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)


def _rises(path: pd.DataFrame) -> pd.DataFrame:
    """Return the rows at which the best rose, the first and the last."""
    kept = path["best"].diff().fillna(1.0) > 0
    kept.iloc[-1:] = True
    return path[kept]
