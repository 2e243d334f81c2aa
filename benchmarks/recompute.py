"""The tables of RESULTS.md again from the committed evidence, without a training. Seconds.

    python -m benchmarks.recompute [--check benchmarks/RESULTS.md]

Prints the method's tables, and the comparisons that its text speaks of. With `--check` every line must be in the file
as it is printed; otherwise the exit code is 1. The search's table is recomputed by `benchmarks.search`, whose evidence
can be given as its folder's file. What has no committed evidence (times of steps and sweeps) can only be measured
again.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare import verdicts
from benchmarks.common import Lead, lead_of
from benchmarks.method import Findings, Study, Training

EVIDENCE = Path(__file__).parent / "evidence" / "method.jsonl"
FAMILIES = {"claimed": "the three comparisons of the claim", "others": "the thirteen others"}
"""The families of comparisons over which p-values are adjusted (Holm), each by itself."""


class Recorded:
    """Looks trainings up in the evidence, where `benchmarks.method.Runs` would train."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        self.done: dict[str, dict[str, Any]] = {result["key"]: result for result in map(json.loads, lines)}

    def __call__(self, trainings: Sequence[Training]) -> list[dict[str, Any]]:
        """Return the result of each training.

        Raises:
            KeyError: the evidence lacks one.
        """
        return [self.done[training.key] for training in trainings]

    def data_sets(self) -> list[str]:
        """Return the data sets, in order of appearance."""
        return list(dict.fromkeys(result["data"] for result in self.done.values()))


def findings(recorded: Recorded) -> Mapping[str, Findings]:
    """Return the findings on each data set."""
    return {data: Study(data, recorded).final() for data in recorded.data_sets()}


def lead(found: Findings, ours: str, theirs: str) -> Lead:
    """Return the lead of one arm over another in points of test accuracy, paired by seed."""
    by_seed = {arm: found.rows[found.rows["arm"] == arm].sort_values("seed")["test"] for arm in (ours, theirs)}
    return lead_of(list(by_seed[ours]), list(by_seed[theirs]))


def one_family(found: Findings) -> pd.DataFrame:
    """Return all comparisons with the arm without a teacher, adjusted as one family of sixteen."""
    return verdicts(found.rows, [(arm, "direct") for arm in found.chosen if arm != "direct"])


def against_shuffled(found: Findings) -> Iterator[str]:
    """Yield a line for the chosen relation with each teacher, compared with the same relation of other samples."""
    for arm in found.claimed[:2]:
        teacher = arm.rpartition("-")[2]
        yield f"| {arm} − shuffled-{teacher} | {_cell(lead(found, arm, f'shuffled-{teacher}'))} |"


def _cell(one: Lead) -> str:
    return f"{one.mean:+.2f} | {one.low:+.2f} … {one.high:+.2f}".replace("-", "−")


def lines(recorded: Recorded) -> Iterator[str]:
    """Yield every line that RESULTS.md must have."""
    for found in findings(recorded).values():
        yield from found.table()
        yield from against_shuffled(found)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recompute")
    parser.add_argument("--check", type=Path, help="a Markdown file that must have every line")
    options = parser.parse_args()
    expected = list(lines(Recorded(EVIDENCE)))
    print("\n".join(expected))
    if options.check:
        text = [line.strip() for line in options.check.read_text(encoding="utf-8").splitlines()]
        missing = [line for line in expected if line not in text]
        for line in missing:
            print(f"{options.check}: lacks {line}", file=sys.stderr)
        raise SystemExit(1 if missing else 0)


if __name__ == "__main__":
    main()
