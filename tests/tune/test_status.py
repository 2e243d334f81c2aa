"""Progress, throughput and time left of a sweep, from a journal written by hand; what a driver prints."""

import io
import json
from pathlib import Path
from typing import Any

import filelock
import pytest
from rich.console import Console

from supersnn.config_model import parse, to_yaml
from supersnn.records.events import SweepStarted
from supersnn.records.events import parse as parse_event
from supersnn.records.state import SweepState
from tune.description.sweep import SweepConfig
from tune.notices import NodeExcluded, NodeUnchecked, Preparing, Progress, StageStarted, TaskFailed, TaskRetried
from tune.store import Store, SweepFolder
from tune.terminal.board import Board
from tune.terminal.display import Display, event_line
from tune.terminal.status import UNKNOWN, board_of, summary

PLAIN: dict[str, Any] = {
    "name": "hand",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 4},
    "arms": {"direct": {}, "soft": {"set": {"neuron.reset": "soft"}}},
    "search": {"trials": 2, "scheduler": "none"},
    "verify": {"seeds": 3},
}
CONFIG = {"student.architecture": "resnet8", "teacher.name": None, "train.epochs": 4}
Line = tuple[float, str, dict[str, Any]]


def of(arm: str, trial: int, **fields: Any) -> dict[str, Any]:
    return {"arm": arm, "trial": trial, **fields}


def trial(arm: str, number: int, began: float, step: float, value: float, last: int = 4) -> list[Line]:
    """A trial of `last` epochs, one every `step` seconds; it ends where that is all of them."""
    lines: list[Line] = [(began, "start", of(arm, number, params={}, config=CONFIG, resumed_at=0))]
    for epoch in range(1, last + 1):
        metrics = {"val/accuracy": value, "spikes/rate": value / 2}
        lines.append((began + epoch * step, "epoch", of(arm, number, epoch=epoch, metrics=metrics)))
    if last == 4:
        lines.append((began + 4 * step, "end", of(arm, number, end="finished", epochs=4, value=value)))
    return lines


def verified(arm: str, number: int, seed: int, at: float) -> Line:
    return at, "verified", of(arm, number, seed=seed, metrics={"test/accuracy": 0.9}, seconds=8.0, config={})


FIRST: list[Line] = [
    (1000.0, "sweep", {"driver": "a", "resumed": False}),
    (1030.0, "teacher", {"name": "vgg8", "digest": "d", "family": "vgg", "val_accuracy": 0.9, "seconds": 20.0}),
    *trial("direct", 0, 1030.0, 5.0, 0.7),
    *trial("soft", 0, 1050.0, 5.0, 0.6),
    *trial("direct", 1, 1070.0, 5.0, 0.8, last=2),
]
"""Ten epochs and two trials in 50 seconds, after 30 of teaching; the driver dies in a third trial."""

SECOND: list[Line] = [
    (90_000.0, "sweep", {"driver": "b", "resumed": True}),
    (90_010.0, "start", of("direct", 1, params={}, config=CONFIG, resumed_at=2)),
    (90_012.0, "epoch", of("direct", 1, epoch=2, metrics={"val/accuracy": 0.8, "spikes/rate": 0.4})),
    (90_015.0, "epoch", of("direct", 1, epoch=3, metrics={"val/accuracy": 0.8, "spikes/rate": 0.4})),
    (90_020.0, "epoch", of("direct", 1, epoch=4, metrics={"val/accuracy": 0.8, "spikes/rate": 0.4})),
    (90_020.0, "end", of("direct", 1, end="finished", epochs=4, value=0.8)),
    *trial("soft", 1, 90_020.0, 2.5, 0.5),
]
"""The next driver, a day later: ten to start, then six epochs and two trials in 20 seconds; one epoch twice."""

END: list[Line] = [
    (90_030.0, "winner", of("direct", 1, value=0.8)),
    (90_030.0, "winner", of("soft", 0, value=0.6)),
    *(verified(*who, 1000 + k, 90_040.0 + 8 * k) for k in range(3) for who in (("direct", 1), ("soft", 0))),
    (90_060.0, "close", {"driver": "b", "end": "done"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    found = Store(tmp_path).sweep("hand")
    found.path.mkdir(parents=True)
    return found


def replayed(lines: list[Line]) -> SweepState:
    """Return the state after some events."""
    state = SweepState()
    for at, event, fields in lines:
        parsed = parse_event(json.dumps({"event": event, "time": at, **fields}))
        assert parsed is not None
        state.apply(parsed)
    return state


def write(folder: SweepFolder, lines: list[Line], **search: Any) -> SweepFolder:
    sweep = parse(SweepConfig, {**PLAIN, "search": {**PLAIN["search"], **search}}, "test")
    folder.config.write_text(to_yaml(sweep), encoding="utf-8")
    text = "".join(json.dumps({"event": event, "time": at, **fields}) + "\n" for at, event, fields in lines)
    folder.journal.write_text(text, encoding="utf-8")
    return folder


def test_throughput_is_that_of_the_search_and_not_of_the_teachers(folder: SweepFolder) -> None:
    found = summary(write(folder, FIRST))
    assert not found["running"]
    assert found["spent_s"] == 80.0
    assert found["epochs_per_s"] == pytest.approx(10 / 50)
    assert found["trials_per_hour"] == pytest.approx(3600 * 2 / 40)
    left = 2 + 4 + 6 * 4
    assert found["left_s"] == pytest.approx(left / (10 / 50))
    assert found["arms"]["direct"]["running"] == {"1": 2}


def test_pauses_are_neither_spent_nor_part_of_the_throughput(folder: SweepFolder) -> None:
    """A pause of 500 s before the first trial, and one of 1000 s between two trials."""
    paused = list[Line]()
    for position, (at, event, fields) in enumerate(FIRST):
        shift = 500.0 * (position > 1) + 1000.0 * (position >= 8)
        if position in (2, 8):
            began = FIRST[position - 1][0] + 500.0 * (position == 8)
            paused.append((began, "wait", {"reason": "all that is left is paused", "paused": True}))
            paused.append((at + shift, "wait", {"reason": ""}))
        paused.append((at + shift, event, fields))
    assert paused[-1][0] == FIRST[-1][0] + 1500.0
    found, without = summary(write(folder, paused)), summary(write(folder, FIRST))
    for key in ("spent_s", "epochs_per_s", "trials_per_hour", "left_s"):
        assert found[key] == pytest.approx(without[key]), key


def test_downtime_is_not_spent_and_the_latest_driver_sets_the_throughput(folder: SweepFolder) -> None:
    found = summary(write(folder, [*FIRST, *SECOND]))
    assert found["spent_s"] == 80.0 + 30.0
    assert found["epochs_per_s"] == pytest.approx(6 / 20)
    assert found["trials_per_hour"] == pytest.approx(3600 * 2 / 20)
    assert found["left_s"] == pytest.approx(24 / (6 / 20))
    fresh = summary(write(folder, [*FIRST, SECOND[0]]))
    assert fresh["spent_s"] == 80.0
    assert fresh["epochs_per_s"] == pytest.approx(10 / 50)


def test_at_the_end_nothing_is_left(folder: SweepFolder) -> None:
    half = summary(write(folder, [*FIRST, *SECOND, *END[:4]]))
    assert half["left_s"] == pytest.approx(4 * 4 / half["epochs_per_s"])
    assert half["ended"] is None
    found = summary(write(folder, [*FIRST, *SECOND, *END]))
    assert found["left_s"] == 0.0
    assert found["spent_s"] == 80.0 + 60.0
    assert found["ended"] == "done"
    assert found["trials_per_hour"] == pytest.approx(3600 * 2 / 20)


def test_rankings_are_part_of_what_is_left(folder: SweepFolder) -> None:
    write(folder, FIRST)
    one = board_of(folder)
    sweep = one.sweep.model_dump(mode="json") | {"verify": {"seeds": 3, "top": 2, "rank_seeds": 5}}
    folder.config.write_text(to_yaml(parse(SweepConfig, sweep, "test")), encoding="utf-8")
    assert board_of(folder).epochs_left() - one.epochs_left() == 2 * 2 * 5 * 4


def test_before_anything_is_trained_nothing_is_predicted(folder: SweepFolder) -> None:
    found = summary(write(folder, FIRST[:2]))
    assert (found["left_s"], found["trials_per_hour"], found["epochs_per_s"]) == (None, None, None)
    assert summary(write(folder, []))["spent_s"] == 0.0


def test_a_trial_beyond_a_constraint_is_not_the_best(folder: SweepFolder) -> None:
    found = summary(write(folder, [*FIRST, *SECOND], constraints={"spikes/rate": 0.35}))
    assert (found["arms"]["direct"]["best_trial"], found["arms"]["soft"]["best_trial"]) == (0, 0)


def test_board_as_text(folder: SweepFolder) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board_of(write(folder, [*FIRST, *SECOND])))
    text = console.export_text()
    for words in ("hand · not running", "1:50 spent", "360 trials/h", "0.3 epochs/s", "about 1:20 left"):
        assert words in text
    with filelock.FileLock(folder.lock):
        assert board_of(folder).stage == "running"


def test_without_a_terminal_each_end_is_a_line_with_the_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    state = replayed(FIRST)
    with Display(Board(parse(SweepConfig, PLAIN, "test"), state)) as display:
        display.notice(StageStarted("search"))
        for at, event, fields in SECOND:
            parsed = parse_event(json.dumps({"event": event, "time": at, **fields}))
            assert parsed is not None
            state.apply(parsed)
            display.event(parsed)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "search"
    assert lines[1].startswith("direct #1: finished after 4 epochs, validation 80.0% · 360 trials/h · ")
    assert lines[2] == (
        "soft #1: finished after 4 epochs, validation 50.0% · 360 trials/h · 0.3 epochs/s · about 1:20 left"
    )


def test_a_driver_that_starts_again_counts_no_downtime() -> None:
    board = Board(parse(SweepConfig, PLAIN, "test"), replayed(FIRST))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board)
    assert "1:20 spent" in console.export_text()
    event = SweepStarted(driver="b", resumed=True)
    board.state.apply(event)
    board.event(event)
    assert board.state.driver_seconds() == 80.0
    assert board.driven
    assert not board.state.searches["direct"].running


def test_a_journal_with_lines_that_are_no_events_is_shown_and_used(folder: SweepFolder) -> None:
    write(folder, FIRST)
    with folder.journal.open("ab") as file:
        file.write(b'garbage\n{"event":"paused","time":1.0}\n')
    board = board_of(folder)
    assert board.state.searches["direct"].best == 0
    faults = summary(folder)["faults"]
    assert [fault.partition(":")[0] for fault in faults] == ["journal.jsonl"] * 2
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board)
    text = console.export_text()
    assert "is no event" in text
    assert "skipped events that this version does not know: paused (1)" in text


def test_an_excluded_node_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(Board(parse(SweepConfig, PLAIN, "test"), SweepState())) as display:
        display.notice(NodeExcluded("n (10.0.0.1)", "torch is older there"))
    assert capsys.readouterr().err == "node n (10.0.0.1) is excluded: torch is older there\n"


def drawn(board: Board, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(board)
    return console.export_text()


def test_a_narrow_board_keeps_the_best_values(folder: SweepFolder) -> None:
    board = board_of(write(folder, [*FIRST, *SECOND]))
    running = {number: number % 4 for number in range(100, 112)}
    for row in board.state.searches.values():
        row.running.update(running)
        assert row.best_trial is not None
        row.best_trial.params["neuron.threshold"] = 0.5
    assert "12 at 0–3/4" in drawn(board, 140)
    assert "threshold=" in drawn(board, 160)
    for width in (140, 80, 64):
        text = drawn(board, width)
        assert all("80.0%" in line for line in text.splitlines() if line.startswith("direct"))
        assert max(map(len, text.splitlines())) <= width
    assert "threshold=" not in drawn(board, 80)


def test_values_in_square_brackets_are_shown(folder: SweepFolder) -> None:
    board = board_of(write(folder, [*FIRST, *SECOND]))
    trial = board.state.searches["direct"].best_trial
    assert trial is not None
    trial.params.clear()
    trial.params["dataset.name"] = "folder:a[b]/[/x]"
    assert "folder:a[b]/[/x]" in drawn(board, 200)


def test_teachers_show_their_progress(folder: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(board_of(write(folder, FIRST[:1]))) as display:
        display.notice(StageStarted("search"))
        display.notice(Preparing(("resnet14", "vgg8")))
        display._printed = float("-inf")
        display.notice(Progress("teacher resnet14", 3, 12))
        display.notice(Progress("teacher resnet14", 4, 12))
        assert "teacher resnet14: epoch 4 of 12 for 0:00" in drawn(display.board, 120)
        display.notice(Progress("teacher cache resnet14", 1, 16))
        assert "teacher cache resnet14: view 1 of 16" in drawn(display.board, 120)
        display.notice(Preparing(("vgg8",)))
        assert "training teacher vgg8 for 0:00" in drawn(display.board, 120)
        display.notice(Preparing(()))
        assert "training" not in drawn(display.board, 120)
        display.notice(Preparing(("vgg8", "resnet8")))
        display.notice(TaskRetried("teacher vgg8", "b (10.0.0.2)", "CUDA error"))
        display.notice(TaskFailed("teacher vgg8", "ValueError: 3 channels"))
        display.notice(NodeUnchecked("c (10.0.0.3)"))
    assert capsys.readouterr().err.splitlines() == [
        "search",
        "training teachers resnet14, vgg8",
        "teacher resnet14: epoch 3 of 12",
        "training teachers vgg8, resnet8",
        "teacher vgg8 failed on node b (10.0.0.2) and is tried again: CUDA error",
        "teacher vgg8 could not be prepared, the rest goes on: ValueError: 3 channels",
        "node c (10.0.0.3) has not answered: it is busy or hangs, and is checked when it works",
    ]


def test_whether_it_runs_is_told_without_writing(folder: SweepFolder) -> None:
    write(folder, [*FIRST, *SECOND])
    before = {path: path.stat().st_mtime_ns for path in (folder.path, *folder.path.iterdir())}
    assert summary(folder)["running"] is False
    assert {path: path.stat().st_mtime_ns for path in (folder.path, *folder.path.iterdir())} == before
    folder.lock.symlink_to(folder.lock)
    assert board_of(folder).stage == UNKNOWN
    assert summary(folder)["running"] is None


def late(folder: SweepFolder, now: float, monkeypatch: pytest.MonkeyPatch, *more: Line) -> Board:
    """Return the board of a driver at work in whose third trial no epoch follows the second one."""
    monkeypatch.setattr("time.time", lambda: now)
    board = board_of(write(folder, [*FIRST, *more], trials=3))
    board.driven = True
    return board


def test_a_trial_that_reports_nothing_is_named_and_no_end_is_predicted(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = 1080.0
    board = late(folder, heard + 600.0, monkeypatch)
    assert board.troubles() == []
    assert board.seconds_left() is not None
    board = late(folder, heard + 601.0, monkeypatch)
    assert board.troubles() == ["direct/1: no report for 10:01"]
    assert board.seconds_left() is None
    board.driven = False
    assert board.troubles() == []
    epoch = of("direct", 1, epoch=3, metrics={"val/accuracy": 0.8, "time/epoch_s": 30.0})
    board = late(folder, heard + 160.0, monkeypatch, (heard + 5.0, "epoch", epoch))
    assert board.troubles() == ["direct/1: no report for 2:35"], "five times the slowest epoch"


def test_trials_that_wait_for_a_node_are_not_called_late(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    again = of("direct", 1, config={}, params={}, resumed_at=2)
    first = [(1085.0 + number, "start", of("direct", number, config={}, params={})) for number in (2, 3)]
    board = late(folder, 1085.0 + 603.0, monkeypatch, (1081.0, "start", again), *first)
    assert board.troubles() == ["direct/1 and 1 more wait for a node or a first epoch, for 10:07"]
    assert board.seconds_left() is not None, "direct/3 is not late yet"
    epoch = of("direct", 1, epoch=3, metrics={"val/accuracy": 0.8, "time/epoch_s": 30.0})
    board = late(folder, 1690.0, monkeypatch, (1081.0, "start", again), *first, (1090.0, "epoch", epoch))
    assert board.troubles() == [
        "direct/1: no report for 10:00",
        "direct/2 and 1 more wait for a node or a first epoch, for 10:03",
    ]
    assert board.seconds_left() is None, "nobody is on time"
    assert summary(folder)["unreported"] == {}, "without a driver"


def test_what_a_driver_waits_for_is_shown_until_it_goes_on(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = (1090.0, "wait", {"reason": "a node: none of 1 living ones holds a trial"})
    board = late(folder, 1100.0, monkeypatch, waits)
    assert board.troubles() == ["waits for a node: none of 1 living ones holds a trial"]
    assert board.seconds_left() is None
    console = Console(file=io.StringIO(), width=100)
    console.print(board)
    assert "waits for a node: none" in console.file.getvalue()  # type: ignore[attr-defined]
    assert late(folder, 1100.0, monkeypatch, waits, (1091.0, "wait", {"reason": ""})).troubles() == []
    assert summary(folder)["waiting"] == ""


def test_a_failed_attempt_is_a_line_and_its_trial_is_not_under_way(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = of("direct", 1, attempt=1, kind="gpu", reason="RuntimeError: CUDA error", node="worker-3", epochs=2)
    event = parse_event(json.dumps({"event": "attempt", "time": 1090.0, **fields}))
    assert event is not None
    assert event_line(event) == "direct #1: GPU error on worker-3: RuntimeError: CUDA error; it is run again"
    board = late(folder, 9000.0, monkeypatch, (1090.0, "attempt", fields))
    assert board.state.search("direct").running == {}
    assert board.troubles() == []
