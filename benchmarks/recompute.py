"""The tables of RESULTS.md again from the committed evidence, without a training. Seconds.

    python -m benchmarks.recompute [--check benchmarks/RESULTS.md]

Prints, each from what `evidence/` has of it: the method's tables and the comparisons that its text speaks of, the
searches' tables, the section on equal sides, and the tables of the sweep of `configs/arms.yaml`. With `--check` nothing
is printed but the lines that the file lacks, and the exit code is 1 if there are any. What has no committed evidence
can only be measured again; RESULTS.md names it.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import arms, method_text, search_stock
from benchmarks.common import figures, plain
from benchmarks.evidence_file import read_evidence
from benchmarks.method import Findings, Study, facts
from benchmarks.search import FEW, SIDES, kept, summary
from benchmarks.sides.evidence import section
from benchmarks.trainings import Recorded

EVIDENCE = Path(__file__).parent / "evidence"
SEARCHES = {"search": (FEW, SIDES), "search_stock": (search_stock.PROBLEM, search_stock.COMPARED)}
"""The benchmarks of searches that have evidence: what is searched, and the sides."""


def method(evidence: Path = EVIDENCE) -> Iterator[str]:
    """Yield the lines on the method: for each data set the facts, the table, and what the text compares."""
    recorded = Recorded(read_evidence(evidence / "method.jsonl"))
    for data, found in findings(recorded).items():
        yield f"### {data}"
        yield from facts(Study(data, recorded), found, recorded.done)
        yield from found.table()
        yield from method_text.lines(data, found)


def findings(recorded: Recorded) -> Mapping[str, Findings]:
    """Return the findings on each data set of the method's evidence."""
    return {data: Study(data, recorded).final() for data in recorded.data_sets()}


def search(name: str, evidence: Path = EVIDENCE) -> Iterator[str]:
    """Yield the lines of a benchmark of `SEARCHES`: the best student found in a given time.

    Raises:
        SystemExit: the evidence lacks the time of a training.
    """
    problem, compared = SEARCHES[name]
    training, found = kept(evidence / f"{name}.jsonl")
    if training is None:
        raise SystemExit(f"{evidence / name}.jsonl: lacks the time of a training")
    yield from figures(plain(summary(name, problem, training, found, compared)))


def sweep_of_arms(evidence: Path = EVIDENCE) -> Iterator[str]:
    """Yield the lines on the sweep of `configs/arms.yaml`; none before it is packed."""
    if (evidence / "arms" / arms.PACKED).exists():
        yield from arms.lines(arms.kept(evidence / "arms"))


def lines(evidence: Path = EVIDENCE) -> Iterator[str]:
    """Yield every line that RESULTS.md must have, without the space around it."""
    searches = (search(name, evidence) for name in SEARCHES)
    parts = (method(evidence), *searches, section(evidence / "sides.jsonl"), sweep_of_arms(evidence))
    yield from (line.strip() for part in parts for line in part)


def lacking(path: Path, evidence: Path = EVIDENCE) -> list[str]:
    """Return the lines that a file should have and has not."""
    text = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    return [line for line in lines(evidence) if line not in text]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recompute")
    parser.add_argument("--check", type=Path, help="a Markdown file that must have every line")
    options = parser.parse_args()
    if options.check:
        missing = lacking(options.check)
        for line in missing:
            print(f"{options.check}: lacks {line}", file=sys.stderr)
        raise SystemExit(1 if missing else 0)
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
