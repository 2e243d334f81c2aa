"""What a running sweep shows on standard error: a live board on a terminal, else a line for what has ended."""

import sys
import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.live import Live

from supersnn.errors import shortened
from supersnn.records.events import AnyEvent, PrecisionLooked, RequestTaken, TeacherTrained, TrialEnded, WinnerVerified
from supersnn.records.failure_events import AttemptFailed, DriverWaits
from supersnn.records.metrics import TEST_ACCURACY
from tune.execution.failures import KIND_TEXTS
from tune.notices import (
    ArmWithoutWinner,
    DatabaseChanged,
    DescriptionWarned,
    DevicesChosen,
    JournalFault,
    NodeExcluded,
    NodeUnchecked,
    Notice,
    Preparing,
    Progress,
    StageStarted,
    StudiesRebuilt,
    TaskFailed,
    TaskRetried,
    WarmStarted,
)
from tune.terminal.board import Board, look_line

PRINT_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""


class Display:
    """Shows a board while its sweep runs, and listens to the record's events and the driver's notices."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._console = Console(stderr=True)
        self._printed = time.monotonic()
        self._teachers: Sequence[str] = ()
        self._live = Live(board, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def event(self, event: AnyEvent) -> None:
        """Show an event."""
        self.board.event(event)
        if not self._console.is_terminal and (line := event_line(event, self.board.state.replicates)):
            rates = self.board.rates() if isinstance(event, TrialEnded | WinnerVerified) else []
            print_line(" · ".join([line, *rates]))

    def notice(self, notice: Notice) -> None:
        """Show a notice."""
        match notice:
            case StageStarted(stage):
                self.board.stage, self.board.note, self.board.working = stage, "", ""
                if not self._console.is_terminal:
                    print_line(stage)
            case Preparing(teachers):
                self._prepare(teachers)
            case Progress():
                self._progress(notice)
            case DatabaseChanged(text):
                self._print_above(text)
            case DescriptionWarned(text):
                self._print_above(f"warning: {text}")
            case DevicesChosen(text):
                self._print_above(f"devices: {text}")
            case NodeExcluded(node, reason):
                self._print_above(f"node {node} is excluded: {reason}")
            case NodeUnchecked(node):
                self._print_above(f"node {node} has not answered: it is busy or hangs, and is checked when it works")
            case TaskRetried(task, node, reason):
                self._print_above(f"{task} failed{f' on node {node}' if node else ''} and is tried again: {reason}")
            case TaskFailed(task, reason):
                self._print_above(f"{task} could not be prepared, the rest goes on: {reason}")
            case JournalFault(fault):
                self._print_above(fault)
            case StudiesRebuilt(arms, trials):
                where = f"{trials} trials of {shortened(', '.join(arms), 200)}"
                self._print_above(f"the studies' database lacked trials: rebuilt from the journal ({where})")
            case WarmStarted(search, earlier, kind, trials):
                what = "trials known to the sampler" if kind == "same task" else "trials to be tried first"
                self._print_above(f"{search}: warm start from {earlier}, {kind}: {trials} {what}")
            case ArmWithoutWinner(arm, reason):
                self._print_above(f"{arm}: no winner: {reason}")

    def _prepare(self, teachers: Sequence[str]) -> None:
        """Show which teachers are being trained; without a terminal each once, when it begins."""
        new = [teacher for teacher in teachers if teacher not in self._teachers]
        self._teachers = teachers
        if new and not self._console.is_terminal:
            print_line(_training(new))
        self.board.work_on(_training(teachers))

    def _progress(self, progress: Progress) -> None:
        """Show how far a teacher or its cache is; without a terminal a line every few seconds."""
        unit = "view" if progress.what.startswith("teacher cache") else "epoch"
        text = f"{progress.what}: {unit} {progress.done} of {progress.of}"
        self.board.work_on(text)
        if not self._console.is_terminal and time.monotonic() - self._printed >= PRINT_EVERY:
            self._printed = time.monotonic()
            print_line(text)

    def _print_above(self, line: str) -> None:
        """Print a line that stays in sight above the board."""
        if self._console.is_terminal:
            self._console.print(line, markup=False)
        else:
            print_line(line)


def _training(teachers: Sequence[str]) -> str:
    return f"training {'teacher' if len(teachers) == 1 else 'teachers'} {', '.join(teachers)}" if teachers else ""


def event_line(event: AnyEvent, replicates: int = 1) -> str | None:
    """Return an event as one line for people, None where it is not worth one; `replicates` are those of the sweep."""
    match event:
        case TeacherTrained():
            where, accuracy = _place(event, replicates), event.val_accuracy or 0
            return f"teacher {event.name}{where}: validation {accuracy:.1%}, {event.seconds or 0:.1f} s"
        case TrialEnded():
            value = "" if event.value is None else f", validation {event.value:.1%}"
            where = _place(event, replicates)
            return f"{event.arm}{where} #{event.trial}: {event.end} after {event.epochs} epochs{value}"
        case AttemptFailed():
            failed = f"{KIND_TEXTS.get(event.kind, event.kind)}{f' on {event.node}' * bool(event.node)}"
            return f"{event.arm}{_place(event, replicates)} #{event.trial}: {failed}: {event.reason}; it is run again"
        case DriverWaits():
            return f"waits for {event.reason}" if event.reason else "goes on"
        case WinnerVerified():
            accuracy, where = event.metrics.get(TEST_ACCURACY.key) or 0, _place(event, replicates)
            ended = "" if event.ended == "finished" else f" ({event.ended})"
            return f"{event.arm}{where} seed {event.seed}: test {accuracy:.1%}{ended}"
        case PrecisionLooked():
            return look_line(event)
        case RequestTaken():
            return request_line(event)
    return None


def _place(event: TeacherTrained | AttemptFailed | TrialEnded | WinnerVerified, replicates: int) -> str:
    """Return data set and replicate of an event, as far as there are several."""
    places = ([event.dataset] if event.dataset else []) + ([f"replicate {event.replicate}"] if replicates > 1 else [])
    return f" ({', '.join(places)})" if places else ""


def request_line(event: RequestTaken) -> str:
    """Return a request that was taken up as one line: what was asked for, by whom, and why it was refused if it was."""
    of = shortened(", ".join(event.searches), 200) + ("" if event.trial is None else f"/{event.trial}")
    values = " ".join(f"{key}={value}" for key, value in event.values.items()) if event.kind != "retry" else ""
    what = " ".join(filter(None, [event.kind, of, values]))
    return f"{what} ({event.by or 'unknown'})" + ("" if event.refused is None else f": refused: {event.refused}")


def print_line(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)
