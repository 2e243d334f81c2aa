"""The model card of an export: data, training, choice, measurements, how to load it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2

from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.records.metrics import EFFECTIVE_ACS, EFFECTIVE_MACS, INFERENCE, MAC_OPS, SYNAPTIC_OPS, Metric
from supersnn.records.pairing import family, pairing

TEMPLATES = Path(__file__).with_name("templates")
NEURONS = {
    "lif": "leaky integrate-and-fire neurons",
    "plif": "leaky integrate-and-fire neurons with learnable decay",
    "relu": "ReLU",
}

COUNTERPARTS = {EFFECTIVE_ACS: SYNAPTIC_OPS, EFFECTIVE_MACS: MAC_OPS}
"""NeuroBench's figures, and ours that equal them where no layer's inputs are averages of spikes."""


def card(config: TrainConfig, metrics: Mapping[str, Any], data: TrainingData) -> str:
    """Return the card as Markdown.

    Args:
        config: the exported training.
        metrics: of the export, with its `forms`.
        data: the images it was trained on.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"percent": lambda share: f"{100 * share:.2f} %", "short": lambda value: f"{value:.4g}"}
    student_family = family(config.student.architecture)
    return environment.get_template("card.md.j2").render(
        config=config,
        m=metrics,
        data=data,
        family=student_family,
        pairing=pairing(student_family, metrics["teacher"]["family"] if metrics["teacher"] else None),
        neurons=NEURONS[config.neuron.kind],
        terms=_terms(config),
        inference=list(_inference(metrics)),
    )


def _inference(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and value of what an inference costs; a figure of NeuroBench's that equals ours shares its row."""
    values = {metric: metrics[metric.column] for metric in INFERENCE if metrics.get(metric.column) is not None}
    twins = {theirs: ours for theirs, ours in COUNTERPARTS.items() if values.get(theirs, "") == values.get(ours)}
    for metric, value in values.items():
        if metric not in twins:
            titles = [metric.title, *(theirs.title for theirs, ours in twins.items() if ours == metric)]
            yield "; ".join(titles), _shown(metric, value)


def _shown(metric: Metric, value: float) -> str:
    """Return a value for people."""
    if metric.unit == "fraction":
        return f"{100 * value:.2f} %"
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{number} {metric.unit}".strip()


def _terms(config: TrainConfig) -> list[str]:
    loss = config.loss
    names = {"relation": f"{loss.relation.kind} relations", "logit": "logits", "feature": "features"}
    return [f"{getattr(loss, term).weight:.4g} × {names[term]}" for term in loss.terms_on()]
