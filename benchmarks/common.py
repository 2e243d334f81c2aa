"""Shared code of the benchmarks: the machine, interleaved repeats, and the common form of a result."""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from analysis.statistics import t_interval
from tune.versions import versions


class Spread(NamedTuple):
    """Summary of repeats: their median, quartiles and number."""

    median: float
    low: float
    high: float
    repeats: int


class Lead(NamedTuple):
    """Points of accuracy by which one side is ahead: the mean over the repeats, with Student's 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} points [{self.low:+.2f}, {self.high:+.2f}]"


def lead_of(ours: Sequence[float], theirs: Sequence[float]) -> Lead:
    """Return the lead of some accuracies over others, paired by repeat."""
    points = [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]
    low, high = t_interval(points)
    return Lead(statistics.fmean(points), float(low), float(high))


@dataclass(frozen=True)
class Result:
    """The result of a benchmark.

    `ratios` are compared with the targets; `measured` holds the values that they are computed from, each in `unit`;
    `notes` is further information.
    """

    name: str
    unit: str
    ratios: Mapping[str, float]
    measured: Mapping[str, Spread]
    notes: Mapping[str, Any] = field(default_factory=dict)


def main(name: str, measure: Callable[[bool], Result], peers: tuple[str, ...] = ()) -> None:
    """Run a benchmark from the command line and print its result, with `--json` as one document.

    `measure` takes whether to be quick: sizes too small for a valid result, to test that the benchmark works.
    """
    options = parser(name).parse_args()
    present(name, options, lambda: measure(options.quick), peers)


def parser(name: str) -> argparse.ArgumentParser:
    """Return the command line that all benchmarks share."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on this benchmark is replaced")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    return parser


def present(
    name: str, options: argparse.Namespace, measure: Callable[[], Result], peers: tuple[str, ...] = (), given: str = ""
) -> None:
    """Measure, and print or write the result; `given` holds the command's arguments after the benchmark's name."""
    if options.write:
        around_section(options.write, name)
    before = load()
    result = measure()
    document = {
        "name": result.name,
        "machine": {**machine(), "load_before": before, "load_after": load()},
        "versions": {**versions(), **{peer: version_of(peer) for peer in peers}},
        "command": f"python -m benchmarks.{name}{given}",
        **plain(result),
    }
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        Console().print(table(result), document["machine"], soft_wrap=True)
    if options.write:
        write_section(options.write, name, markdown(document))


def plain(result: Result) -> dict[str, Any]:
    """Return the figures of a result as they are printed with `--json`."""
    return {
        "ratios": dict(result.ratios),
        "unit": result.unit,
        "measured": {side: spread._asdict() for side, spread in result.measured.items()},
        "notes": dict(result.notes),
    }


def table(result: Result) -> Table:
    """Return the result as a table for the terminal."""
    drawn = Table("", "median", "quartiles", "n", title=f"{result.name} ({result.unit})", title_justify="left")
    for side, spread in result.measured.items():
        drawn.add_row(side, f"{spread.median:.4g}", f"{spread.low:.4g} … {spread.high:.4g}", str(spread.repeats))
    drawn.add_section()
    for ratio, value in result.ratios.items():
        drawn.add_row(f"ratio: {ratio}", f"{value:.3f}")
    for note, text in result.notes.items():
        drawn.add_row(note, str(text))
    return drawn


def markdown(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a result for RESULTS.md: machine and versions, table, ratios, notes."""
    yield from origin(document)
    yield ""
    yield from figures(document)


def figures(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a result that do not depend on the machine that prints them: table, ratios, notes."""
    yield f"| {document['unit']} | median | quartiles | n |"
    yield "| --- | --- | --- | --- |"
    for side, row in document["measured"].items():
        yield f"| {side} | {row['median']:.4g} | {row['low']:.4g} … {row['high']:.4g} | {row['repeats']} |"
    yield ""
    yield "Ratios: " + ", ".join(f"{name} **{value:.3f}**" for name, value in document["ratios"].items())
    yield ""
    yield from (f"- {note}: {text}" for note, text in document["notes"].items())


def origin(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that name the command, the machine and the versions of a measurement."""
    about, load = document["machine"], ""
    if "load_before" in about:
        load = f", load {about['load_before']} before and {about['load_after']} after"
    yield f"    {document['command']}"
    yield ""
    yield f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB{load}; " + ", ".join(
        f"{package} {_short(version)}" for package, version in document["versions"].items() if version
    )


def _short(version: str) -> str:
    """Return a version as it is, and a platform without its kernel's."""
    return re.sub(r"^(\w+)-.*-(\w+)-with-glibc", r"\1 \2 glibc ", version)


def write_section(path: Path, name: str, lines: Iterable[str]) -> None:
    """Replace the text between a Markdown file's marks `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        SystemExit: the file cannot be read, or has no such marks.
    """
    before, after = around_section(path, name)
    path.write_text("\n".join([before, "", *lines, "", after]), encoding="utf-8")


def around_section(path: Path, name: str) -> tuple[str, str]:
    """Return the text before and after a section, with its marks; see `write_section`."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from error
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path}: no lines {begin!r} and {end!r}")
    return before + begin, end + after


def interleaved(sides: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each call of each side: all sides take turns, so that load on the machine affects all."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(warm_up + repeats):
        for side, run in sides.items():
            started = time.perf_counter()
            run()
            if repeat >= warm_up:
                seconds[side].append(time.perf_counter() - started)
    return seconds


def spread(values: list[float]) -> Spread:
    """Return the median and the quartiles of some values."""
    low, middle, high = statistics.quantiles(values, method="inclusive") if len(values) > 1 else values * 3
    return Spread(middle, low, high, len(values))


def progress(text: str) -> None:
    """Print a benchmark's progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def version_of(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_memory() -> float:
    """Return the peak memory of this process in MB (Linux only)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def load() -> float:
    """Return the machine's load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the memory of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": _processor(), "cores": os.cpu_count(), "memory_gb": round(pages / 2**30, 1)}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
