"""Runs the fuzzers: `python -m tests.fuzz --minutes 15 --seed 0`; exit code 1 if anything was found."""

import argparse
import functools
import importlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.fuzz import workers
from tests.fuzz.findings import Finding, Findings


@dataclass(frozen=True)
class Part:
    """A fuzzer and what it gets of a run.

    Attributes:
        share: of the run's time.
        most: cases, after which it is done; 0: as many as its module has.
        limit: seconds after which a case counts as hanging.
        renew: after how many cases a process is replaced.
    """

    share: float
    most: int
    limit: float
    renew: int


PARTS: dict[str, Part] = {
    "sweep_files": Part(share=0.22, most=5000, limit=40, renew=400),
    "images": Part(share=0.05, most=0, limit=60, renew=100),
    "damages": Part(share=0.63, most=1000, limit=120, renew=25),
    "environment": Part(share=0.1, most=0, limit=600, renew=1000),
}
"""The fuzzers in the order in which they run. What a part does not need of its time the next ones get."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen parts; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="the time of all parts together")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other mutants")
    parser.add_argument(
        "--only", choices=list(PARTS), action="append", help="run this part; may be given several times"
    )
    parser.add_argument("--case", type=int, help="repeat one case, in this process")
    parser.add_argument("--cases", type=int, help="how many cases each part tries at most")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes")
    options = parser.parse_args(arguments)
    names = options.only or list(PARTS)
    for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "SUPERSNN_STORE", "SUPERSNN_SHARED", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    findings, ends = Findings(), time.monotonic() + 60 * options.minutes
    rows: list[tuple[str, int, float, float]] = []
    for position, name in enumerate(names):
        began, computed = time.monotonic(), _computed()
        shares = [PARTS[other].share for other in names[position:]]
        deadline = began + (ends - began) * shares[0] / sum(shares)
        most = options.cases or PARTS[name].most
        tried = 0
        for _, found in _cases(name, options.seed, most, options.case, options.jobs, deadline):
            tried += 1
            for finding in findings.add(found):
                print(f"{name}: {finding.text()}", flush=True)
            if tried % 500 == 0:
                print(f"{name}: {tried} cases in {time.monotonic() - began:.0f} s", flush=True)
        rows.append((name, tried, time.monotonic() - began, _computed() - computed))
    _summary(rows, findings)
    return 1 if findings.found else 0


def _cases(
    name: str, seed: int, most: int, case: int | None, jobs: int, deadline: float
) -> Iterator[tuple[int, list[Finding]]]:
    """Yield the findings of a part's cases."""
    part, module = PARTS[name], importlib.import_module(f"tests.fuzz.{name}")
    if case is not None:
        told, found = module.check(seed, case)
        print(told)
        yield case, found
        return
    if hasattr(module, "prepare"):
        module.prepare()
    numbers = iter(range(most)) if most else iter(range(module.count()))
    if most and hasattr(module, "count"):
        numbers = itertools.islice(iter(range(module.count())), most) if module.count() < most else numbers
    check = functools.partial(module.check, seed)
    for number, found in workers.run(
        name, check, numbers, jobs=jobs, deadline=deadline, limit=part.limit, renew=part.renew
    ):
        yield number, [finding if finding.number >= 0 else _numbered(finding, number) for finding in found]


def _numbered(finding: Finding, number: int) -> Finding:
    import dataclasses

    return dataclasses.replace(finding, number=number)


def _computed() -> float:
    """The seconds of processor time so far, those of the processes that have ended included."""
    return sum(os.times()[:4])


def _summary(rows: Sequence[tuple[str, int, float, float]], findings: Findings) -> None:
    print()
    for name, tried, seconds, computed in rows:
        found = findings.of(name)
        print(f"== {name}: {tried} cases in {seconds:.0f} s ({computed:.0f} s of CPU), {len(found)} findings")
        for finding in found:
            print(f"  {findings.times[finding.fault]:5d} × {finding.text()}")


if __name__ == "__main__":
    sys.exit(main())
