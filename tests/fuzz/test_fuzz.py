"""A short seeded form of the fuzzers, and that they find what they are made to find."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import damages, environment, images, sweep_files, workers
from tests.fuzz.command import Ended, TooSlow, at_most, call
from tests.fuzz.findings import Finding, Findings
from tests.fuzz.simulation import simulate
from tune.description.arms import resolve
from tune.description.sweep import load


@pytest.fixture(autouse=True, scope="module")
def no_servers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "SUPERSNN_STORE", "SUPERSNN_SHARED"):
            patch.delenv(name, raising=False)
        yield


def told(findings: list[Finding]) -> str:
    return "\n".join(finding.text() for finding in findings)


@pytest.mark.parametrize("name", sorted(sweep_files.sources()))
def test_the_files_that_mutants_are_made_of_are_accepted_and_searched_to_the_end(name: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(sweep_files.sources()[name], encoding="utf-8")
    assert call(["sweep", file, "--dry-run", "--no-timing"]).code == 0
    assert not told(list(sweep_files.try_file(name, file.read_bytes())))
    sweep = load(file)
    assert not list(simulate(sweep, resolve(sweep), seed=1))


def test_mutated_sweep_files() -> None:
    found = Findings()
    for number in range(80):
        found.add(sweep_files.check(7, number)[1])
    assert not told(found.of(sweep_files.PART))


def test_damaged_stores() -> None:
    found = Findings()
    for number in range(4):
        found.add(damages.check(7, number)[1])
    assert not told(found.of(damages.PART))


def test_odd_images() -> None:
    found = Findings()
    for number in range(0, images.count(), 12):
        found.add(images.check(7, number)[1])
    assert not told(found.of(images.PART))


@pytest.mark.parametrize("name", ["an output in ascii", "COLUMNS=20", "the store is a file", "store 'x?y'"])
def test_faulty_environments(name: str) -> None:
    (number,) = (place for place, scene in enumerate(environment.scenes()) if scene.name == name)
    assert not told(environment.check(0, number)[1])


def test_a_mutant_is_a_function_of_its_number() -> None:
    mutants = [sweep_files.mutant(0, number) for number in range(30)]
    assert mutants == [sweep_files.mutant(0, number) for number in range(30)]
    assert len(set(mutants)) > 25


@pytest.mark.parametrize(
    ("ended", "invariants"),
    [
        (Ended("sweep f", 2, "", "supersnn: f: key: wrong\n", 1, None, ()), []),
        (Ended("sweep f", 0, "plan", "", 1, None, ()), []),
        (Ended("sweep f", 1, "", "", 1, ValueError("x"), ()), ["traceback"]),
        (Ended("sweep f", 1, "", "", 1, TooSlow("x"), ()), ["takes too long"]),
        (Ended("sweep f", 139, "", "x", 1, None, ()), ["exit code", "not one line with exit code 2"]),
        (Ended("sweep f", 2, "", "", 1, None, ()), ["error without a word", "not one line with exit code 2"]),
        (Ended("sweep f", 2, "", "a\nb\n", 1, None, ()), ["not one line with exit code 2"]),
        (Ended("sweep f", 2, "", "x" * 601, 1, None, ()), ["line of error too long"]),
        (Ended("sweep f", 0, "", "", 1, None, ("UserWarning: x",)), ["warning"]),
        (Ended("sweep f", 2, "", "Traceback (most recent call last):", 1, None, ()), ["traceback is printed"]),
    ],
)
def test_what_does_not_hold_of_a_command_is_found(ended: Ended, invariants: list[str]) -> None:
    assert [finding.invariant for finding in ended.faults("x", "case", user=True)] == invariants


@pytest.mark.parametrize(
    ("code", "err", "invariants"),
    [
        (141, "", []),
        (0, "nothing left to do", []),
        (1, "", ["exit code"]),
        (141, "supersnn: Broken pipe", ["complains about a pipe that was closed"]),
    ],
)
def test_what_does_not_hold_of_a_command_that_nobody_reads_is_found(code: int, err: str, invariants: list[str]) -> None:
    ended = Ended("report x | head -1", code, "", err, 1, None, ())
    assert [finding.invariant for finding in ended.faults("x", "case", unread=True)] == invariants


def test_a_figure_that_changed_in_silence_and_a_second_opening_are_found(tmp_path: Path) -> None:
    sound = damages.pristine()
    done = damages.Damage("sweeps/mini/journal.jsonl", "value", "one")
    silent = Ended("report", 0, '{"problems": 0, "arms": {}}', "", 1, None, ())
    assert [one.invariant for one in damages._same_report(sound, done, silent)] == ["another figure without a word"]
    for out, err, code in (('{"problems": 1}', "", 0), ("{}", "journal.jsonl: damaged", 0), ("", "supersnn: x", 1)):
        assert not list(damages._same_report(sound, done, Ended("report", code, out, err, 1, None, ())))
    line = '{"purpose": "verify direct/0/1000", "weights": "ab", "time": 1}\n'
    (tmp_path / "test-ledger.jsonl").write_text(line * 2 + '{"purpose": "check", "weights": null}\n' * 3)
    assert damages._openings(tmp_path) == {("verify direct/0/1000", "ab"): 2}


def test_findings_of_one_fault_are_one_with_the_shortest_case() -> None:
    found = Findings()
    first = Finding("damages", "traceback", "a.py:f ValueError", "a long case", "x")
    assert found.add([first]) == [first]
    assert found.add([Finding("damages", "traceback", "a.py:f ValueError", "short", "x")]) == []
    assert [finding.case for finding in found.of("damages")] == ["short"]
    assert found.times == {first.fault: 2}


def _troublesome(number: int) -> tuple[str, list[Finding]]:
    if number == 1:
        time.sleep(60)
    if number == 2:
        raise KeyboardInterrupt
    if number == 3:
        import os

        os._exit(7)
    return "", []


def test_cases_that_hang_die_or_raise_are_findings_and_the_others_go_on() -> None:
    run = workers.run("x", _troublesome, iter(range(6)), jobs=2, deadline=time.monotonic() + 30, limit=1, renew=2)
    found = {number: [finding.invariant for finding in findings] for number, findings in run}
    assert found == {0: [], 1: ["hangs"], 2: ["traceback in the fuzzer"], 3: ["the process died"], 4: [], 5: []}


def test_no_case_is_begun_after_the_deadline() -> None:
    run = workers.run("x", _troublesome, itertools.count(10), jobs=1, deadline=time.monotonic() + 0.3, limit=5, renew=9)
    assert sum(1 for _ in run) > 1


def test_a_case_is_ended_after_its_time() -> None:
    with pytest.raises(TooSlow), at_most(0.05):
        time.sleep(5)
