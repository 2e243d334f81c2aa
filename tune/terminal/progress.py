"""What a sweep looks like from outside: a board that follows its events, drawn live, as plain lines, or once."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text


@dataclass
class ArmRow:
    """An arm as the board shows it."""

    running: dict[int, int] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    params: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    verified: dict[tuple[int, int], float] = field(default_factory=dict)

    def ended(self, word: str) -> int:
        """Return how many trials ended so: `finished`, `stopped` or `failed`."""
        return sum(end.startswith(word) for end in self.ends.values())


class Board:
    """The state of a sweep, from its events alone; the same from the driver and from a second terminal."""

    def __init__(self, name: str, arms: Mapping[str, int], epochs: int, seeds: int) -> None:
        """Show `arms` (trials to run, by name) of `epochs` each, and `seeds` verifications of each winner."""
        self.name, self.trials, self.epochs, self.seeds = name, arms, epochs, seeds
        self.rows = {arm: ArmRow() for arm in arms}
        self.stage, self.note = "starting", ""
        self.started = time.time()
        self.pending = 0
        self._ended_here = 0
        self._search_began: float | None = None

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take what happened before, which is no part of this driver's pace."""
        for event in events:
            self.event(event["event"], event)
        self.note, self._ended_here = "", 0
        for row in self.rows.values():
            row.running.clear()

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take an event of the journal, or a change of `stage`."""
        row = self.rows.get(str(fields.get("arm")))
        match event:
            case "stage":
                self.stage, self.note = fields["stage"], fields.get("note", "")
                if self.stage == "search":
                    self._search_began = time.time()
            case "teacher":
                accuracy = fields.get("val_accuracy")
                self.note = f"{fields['name']} {accuracy:.1%}" if accuracy is not None else fields["name"]
            case "start" if row:
                row.running[fields["trial"]] = fields.get("resumed_at", 0)
                row.params[fields["trial"]] = fields["params"]
            case "epoch" if row:
                row.running[fields["trial"]] = fields["epoch"]
            case "end" if row:
                self._end(row, fields)
            case "verified" if row:
                metrics = fields["metrics"]
                row.verified[fields["trial"], fields["seed"]] = metrics["test/accuracy"]

    def _end(self, row: ArmRow, fields: Mapping[str, Any]) -> None:
        row.running.pop(fields["trial"], None)
        row.ends[fields["trial"]] = fields["end"]
        self._ended_here += 1
        value = fields.get("value")
        if fields["end"] == "finished" and value is not None and (row.best is None or value > row.best[0]):
            row.best = value, fields["trial"]

    def remaining(self) -> float | None:
        """Return the seconds that the search will still take at its present pace, or None before it has one."""
        if self._search_began is None or not self._ended_here:
            return None
        left = sum(self.trials.values()) - sum(len(row.ends) for row in self.rows.values())
        return left * (time.time() - self._search_began) / self._ended_here

    def __rich__(self) -> Group:
        """Draw the board."""
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        for column, justify in _COLUMNS:
            table.add_column(column, justify=justify, no_wrap=True, min_width=len(column))
        table.add_column("with", ratio=1, no_wrap=True, overflow="ellipsis")
        for arm, row in self.rows.items():
            table.add_row(*self._cells(arm, row))
        return Group(self._headline(), table)

    def _cells(self, arm: str, row: ArmRow) -> list[str]:
        running = " ".join(f"#{trial}:{epoch}/{self.epochs}" for trial, epoch in row.running.items())
        best, with_values = "", ""
        if row.best:
            best = f"{row.best[0]:.1%}"
            params = row.params.get(row.best[1], {})
            with_values = f"#{row.best[1]} " + " ".join(f"{_short(key)}={_value(v)}" for key, v in params.items())
        ends = [str(row.ended(word)) for word in ("finished", "stopped", "failed")]
        fresh = f"{len(row.verified)}/{self.seeds}" if row.verified else ""
        return [arm, f"{len(row.ends)}/{self.trials[arm]}", *ends, running, fresh, best, with_values]

    def _headline(self) -> Text:
        parts = [self.name, self.stage, self.note, _clock(time.time() - self.started)]
        left = self.remaining() if self.stage == "search" else None
        if left is not None:
            parts.append(f"about {_clock(left)} left")
        if self.pending:
            parts.append(f"{self.pending} events wait for MLflow")
        return Text(" · ".join(part for part in parts if part), style="bold", no_wrap=True, overflow="ellipsis")


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("arm", "left"),
    ("ended", "right"),
    ("finished", "right"),
    ("stopped", "right"),
    ("failed", "right"),
    ("running", "left"),
    ("seeds", "right"),
    ("best", "right"),
)


class Display:
    """Shows a board on standard error while a sweep runs: live on a terminal, else a line for what ends."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._console = Console(stderr=True)
        self._live = Live(board, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take an event, and show it."""
        self.board.event(event, fields)
        if not self._console.is_terminal and (line := _line(event, fields)):
            print(line, file=sys.stderr, flush=True)


def _line(event: str, fields: Mapping[str, Any]) -> str | None:
    match event:
        case "stage":
            return " · ".join(part for part in (fields["stage"], fields.get("note", "")) if part)
        case "teacher":
            return f"teacher {fields['name']}: validation {fields['val_accuracy']:.1%}, {fields['seconds']:.1f} s"
        case "end":
            value = fields.get("value")
            shown = f" validation {value:.1%}" if value is not None else ""
            return f"{fields['arm']} #{fields['trial']}: {fields['end']} after {fields['epochs']} epochs{shown}"
        case "verified":
            metrics = fields["metrics"]
            return f"{fields['arm']} seed {fields['seed']}: test {metrics['test/accuracy']:.1%}"
    return None


def _short(key: str) -> str:
    return key.removeprefix("loss.").removesuffix(".name").rsplit(".", 1)[-1] if "relation" not in key else "relation"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
