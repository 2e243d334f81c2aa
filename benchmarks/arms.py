"""What the sweep configs/arms.yaml found, computed from its journal alone. Seconds.

    supersnn sweep configs/arms.yaml                        (an hour or two on two cores)
    python -m benchmarks.arms [--keep STORE/sweeps/arms] [--write benchmarks/RESULTS.md]

`--keep` packs the sweep's configuration and journal into evidence/arms, which the tables are computed from.
"""

import argparse
import lzma
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from analysis.load import sweep
from analysis.results import results
from analysis.sentences import percent, signed
from benchmarks.common import write_section

EVIDENCE = Path(__file__).parent / "evidence" / "arms"
_IMAGES = re.compile(r"folder:/(?:[^/\s\"]+/)*(?=[^/\s\"]+/[^/\s\"]+)")
CONFIG, JOURNAL, PACKED = "config.yaml", "journal.jsonl", "journal.jsonl.xz"


def keep(folder: Path, evidence: Path = EVIDENCE) -> None:
    """Pack the configuration and the journal of a sweep's folder; of paths of images their last two parts are kept."""
    evidence.mkdir(parents=True, exist_ok=True)
    config, journal = (
        _IMAGES.sub("folder:", (folder / name).read_text(encoding="utf-8")) for name in (CONFIG, JOURNAL)
    )
    (evidence / CONFIG).write_text(config, encoding="utf-8")
    (evidence / PACKED).write_bytes(lzma.compress(journal.encode(), preset=9))


@cache
def kept(evidence: Path = EVIDENCE) -> dict[str, Any]:
    """Return the results of the sweep that was packed, as `supersnn report --json` gives them."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(evidence / CONFIG, Path(folder, CONFIG))
        Path(folder, JOURNAL).write_bytes(lzma.decompress((evidence / PACKED).read_bytes()))
        return results(sweep(folder, cache=False))


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of a sweep's results: accuracies by data set and arm, then differences."""
    arms = list(found["arms"])
    cells = {(row["dataset"], row["arm"]): row for row in found["arms_by_dataset"]}
    yield f"| test accuracy, % (95 % interval over searches) | {' | '.join(arms)} |"
    yield f"| --- |{' --- |' * len(arms)}"
    for dataset in found["datasets"]:
        yield f"| {dataset} | {' | '.join(_accuracy(cells.get((dataset, arm))) for arm in arms)} |"
    yield ""
    yield "| data set | difference | searches | points | 95 % interval | p (Holm) | sign flips | verdict |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in found["verdicts"]:
        yield (
            f"| {row['dataset']} | {row['a']} − {row['b']} | {row['n']} | {signed(row['difference'])} | "
            f"{signed(row['low'])} … {signed(row['high'])} | {_p(row['p'])} | {_p(row['p_flip'])} | "
            f"{row['verdict']} |"
        )


def _accuracy(row: dict[str, Any] | None) -> str:
    if row is None or row["low"] is None:
        return percent(None if row is None else row["mean"])
    return f"{percent(row['mean'])} ({percent(row['low'])} … {percent(row['high'])})"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arms")
    parser.add_argument("--keep", type=Path, help="the folder of the finished sweep, to be packed first")
    parser.add_argument("--write", type=Path, help="a Markdown file with the marks of the section")
    options = parser.parse_args()
    if options.keep:
        keep(options.keep)
    if not (EVIDENCE / PACKED).exists():
        raise SystemExit(f"{EVIDENCE}: no sweep is packed there; see --keep")
    text = ["    supersnn sweep configs/arms.yaml", "", *lines(kept())]
    print("\n".join(text))
    if options.write:
        write_section(options.write, "arms", text)


if __name__ == "__main__":
    main()
