"""RESULTS.md and README.md have what the committed evidence gives, and no other numbers of the method."""

import re
from pathlib import Path

import pytest

from benchmarks.recompute import EVIDENCE, Recorded, findings, lead, lines

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(EVIDENCE)


def test_every_line_of_the_tables_is_computed_from_the_evidence(recorded: Recorded) -> None:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    written = [line.strip() for line in text.splitlines()]
    expected = list(lines(recorded))
    assert len(expected) == 2 * (2 + 17 + 2)
    assert [line for line in expected if line not in written] == []
    section = text.partition("<!-- method -->")[2].partition("<!-- end of method -->")[0]
    arms = [line for line in section.splitlines() if re.match(r"\| [a-z_+]+(-\w+)? \|", line) and "arm" not in line]
    assert set(arms) <= set(expected)
    assert len(arms) == 34


def test_the_readmes_leads_are_those_of_the_evidence(recorded: Recorded) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    kinds = {"folder:data/cifar10-jpeg": "gram", "fashion-mnist": "cosine"}
    for data, found in findings(recorded).items():
        kind = kinds[data]
        assert found.claimed[0] == f"{kind}-homogeneous"
        for against in ("direct", "shuffled-{}"):
            cells = []
            for teacher in ("homogeneous", "heterogeneous"):
                one = lead(found, f"{kind}-{teacher}", against.format(teacher))
                cells.append(f"{one.mean:+.2f} ({one.low:+.2f} … {one.high:+.2f})".replace("-", "−"))
            assert f"| {cells[0]} | {cells[1]} |" in text
