"""The committed evidence at equal sides: packed from the folders of runs, and the section that it gives."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import origin
from benchmarks.evidence_file import read_evidence
from benchmarks.sides.design import ARMS, Comparison
from benchmarks.sides.tables import findings
from benchmarks.trainings import QUICK, RESULTS, MissingTraining, Recorded

EVIDENCE = Path(__file__).parents[1] / "evidence" / "sides.jsonl"


def keep(folders: Sequence[Path], evidence: Path = EVIDENCE) -> None:
    """Add the lines of some folders to the evidence, each training once; quick ones and other benchmarks' are left out.

    Raises:
        SystemExit: a folder has no results.
    """
    lines = list(read_evidence(evidence))
    for folder in folders:
        if not (folder / RESULTS).exists():
            raise SystemExit(f"{folder}: no {RESULTS} there; expected the --folder of a run")
        lines += [line for line in read_evidence(folder / RESULTS) if line.get("sizes", {}) not in ({}, QUICK)]
    once: dict[str, dict[str, Any]] = {}
    for line in lines:
        once.setdefault(line.get("key") or json.dumps(line, sort_keys=True), line)
    evidence.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in once.values())
    evidence.write_text(text, encoding="utf-8")


def recorded(evidence: Path = EVIDENCE) -> list[Comparison]:
    """Return a comparison for each data set and size in the evidence, of the arms that have a line there."""
    found = Recorded(read_evidence(evidence))
    arms: dict[tuple[str, tuple[tuple[str, int], ...]], set[str]] = {}
    for line in found.done.values():
        arms.setdefault((line["data"], tuple(line["sizes"].items())), set()).add(line["arm"])
    return [
        Comparison(data, dict(sizes), [arm for arm in ARMS if arm in own], found) for (data, sizes), own in arms.items()
    ]


def section(evidence: Path = EVIDENCE) -> Iterator[str]:
    """Yield the lines of RESULTS.md: what it was measured on, then each data set that is complete."""
    tables = [lines for comparison in recorded(evidence) if (lines := complete(comparison))]
    if not tables:
        return
    runs = [line for line in read_evidence(evidence) if line["event"] == "run"]
    for text in dict.fromkeys("\n".join(origin(run)) for run in runs):
        yield from [*text.split("\n"), ""]
    yield from dict.fromkeys(_teachers(evidence))
    yield ""
    for lines in tables:
        yield from lines


def complete(comparison: Comparison) -> list[str]:
    """Return the lines of a comparison, none where a training of an arm that was begun is missing."""
    try:
        return list(findings(comparison))
    except MissingTraining:
        return []


def _teachers(evidence: Path) -> Iterator[str]:
    for line in read_evidence(evidence):
        if line["event"] == "teachers":
            about = line["teachers"]
            accuracies = ", ".join(f"{one['val']:.1%}" for one in about)
            yield (
                f"- {line['data']}, {line['sizes']['epochs']} epochs: {len(about)} draws of the teacher "
                f"{about[0]['name']}, {about[0]['parameters']:,} parameters, validation {accuracies}"
            )
