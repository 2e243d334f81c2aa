"""The page."""

from html import escape

from analysis import compare
from analysis.results import results, table, verdict_table
from analysis.tables import Sweep


def render(sweeps: list[Sweep], margin: float = compare.MARGIN) -> str:
    """Return the page's HTML."""
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>SuperSNN report</title>"]
    for sweep in sweeps:
        told = results(sweep, margin)
        parts.append(f"<h1>{escape(sweep.name)}</h1><p>{escape(told['answer'])}</p>")
        for found in (table(told), verdict_table(told)):
            heads = "".join(f"<th>{escape(h)}</th>" for h in (found[0] if found else {}))
            body = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in r.values()) + "</tr>" for r in found)
            parts.append(f"<table><tr>{heads}</tr>{body}</table>")
    return "\n".join(parts)
