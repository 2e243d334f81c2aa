"""Cases in processes of their own, which are replaced after some cases, and when one hangs, dies or grows too large."""

import contextlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tests.fuzz.findings import Finding, last_line, place_of

Check = Callable[[int], tuple[str, list[Finding]]]
"""Tries a case by its number; returns the case in words, and what does not hold."""
MEMORY = 3 * 2**30
"""Bytes that a process may take beyond what it has at its start."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    case: int = -1
    since: float = 0.0
    done: int = 0


def run(
    part: str, check: Check, cases: Iterator[int], *, jobs: int, deadline: float, limit: float, renew: int
) -> Iterator[tuple[int, list[Finding]]]:
    """Yield the findings of each case, in the order in which they end.

    Args:
        part: named in the findings that are made here.
        check: tries one case; it runs in the processes, which are forked.
        cases: the numbers of the cases.
        jobs: how many processes.
        deadline: by `time.monotonic`, when no further case is begun.
        limit: seconds after which a case counts as hanging, and its process is killed.
        renew: after how many cases a process is replaced.
    """
    workers = [_start(part, check) for _ in range(jobs)]
    try:
        for worker in workers:
            _give(worker, cases, deadline)
        while busy := [worker for worker in workers if worker.case >= 0]:
            ready = wait([worker.connection for worker in busy], timeout=1.0)
            for worker in busy:
                if worker.connection in ready:
                    yield worker.case, _received(part, worker)
                elif time.monotonic() - worker.since > limit:
                    worker.process.kill()
                    worker.process.join()
                    yield worker.case, [Finding(part, "hangs", "?", f"case {worker.case}", f"more than {limit:g} s")]
                else:
                    continue
                worker.done += 1
                worker.case = -1
                if worker.done >= renew or not worker.process.is_alive():
                    _stop(worker)
                    workers[workers.index(worker)] = worker = _start(part, check)
                _give(worker, cases, deadline)
    finally:
        for worker in workers:
            _stop(worker)


def _start(part: str, check: Check) -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(part, check, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, cases: Iterator[int], deadline: float) -> None:
    worker.case, worker.since = -1, time.monotonic()
    if worker.since < deadline and (case := next(cases, None)) is not None:
        worker.case = case
        worker.connection.send(case)


def _received(part: str, worker: _Worker) -> list[Finding]:
    try:
        findings: list[Finding] = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(10)
        return [Finding(part, "the process died", f"{worker.process.exitcode}", f"case {worker.case}", "")]
    return findings


def _stop(worker: _Worker) -> None:
    with contextlib.suppress(OSError):  # it has died
        worker.connection.send(None)
    worker.process.join(1.0 if worker.case < 0 else 0.0)
    worker.connection.close()
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _serve(part: str, check: Check, connection: Connection) -> None:
    """Try the cases that come until there is none."""
    used = int(open("/proc/self/statm", encoding="ascii").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    while True:
        try:
            case = connection.recv()
        except EOFError:
            case = None
        if case is None:
            os._exit(0)
        try:
            _, findings = check(case)
        except BaseException as error:
            findings = [Finding(part, "traceback in the fuzzer", place_of(error), f"case {case}", last_line(error))]
        connection.send(findings)
