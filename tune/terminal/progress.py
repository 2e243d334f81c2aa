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

from tune.description.sweep import SweepConfig
from tune.terminal.throughput import Throughput


@dataclass
class ArmRow:
    """An arm as the board shows it.

    By trial: where it is (`running`), how far it ever came (`epochs`), its last `metrics`; `ranked` and `verified` are
    accuracies by trial and seed.
    """

    running: dict[int, int] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    metrics: dict[int, Mapping[str, float]] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    params: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    winner: int | None = None
    ranked: dict[tuple[int, int], float | None] = field(default_factory=dict)
    verified: dict[tuple[int, int], float | None] = field(default_factory=dict)

    def ended(self, word: str) -> int:
        """Return how many trials ended so: `finished`, `stopped` or `failed`."""
        return sum(end.startswith(word) for end in self.ends.values())


class Board:
    """The state of a sweep, from its events alone; the same from the driver and from a second terminal."""

    def __init__(self, sweep: SweepConfig) -> None:
        self.sweep = sweep
        self.rows = {arm: ArmRow() for arm in sweep.arms}
        self.stage, self.note = "starting", ""
        self.driven = False
        self.ended: str | None = None
        self.pace = Throughput()
        self._searching = True

    @property
    def trials(self) -> int:
        """How many trials an arm is to have."""
        return self.sweep.search.trials

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take what happened under earlier drivers, which are gone, and with them what they had running."""
        for event in events:
            self.event(event["event"], event)
        self.driven, self.note = False, ""
        for row in self.rows.values():
            row.running.clear()

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take an event of the journal (one that happens now has no time yet), or a change of `stage`."""
        row = self.rows.get(str(fields.get("arm")))
        if event == "stage":
            self.stage, self.note = fields["stage"], fields.get("note", "")
            return
        trained = self._take(event, fields, row) if row else 0
        match event:
            case "sweep":
                self.driven, self.ended = True, None
            case "close":
                self.driven, self.ended = False, fields["end"]
            case "teacher":
                accuracy = fields.get("val_accuracy")
                self.note = f"{fields['name']} {accuracy:.1%}" if accuracy is not None else fields["name"]
            case "start":
                self._searching, self.note = True, ""
            case "ranked" | "winner":
                self._searching = False
        self.pace.event(event, float(fields.get("time", time.time())), trained)

    def _take(self, event: str, fields: Mapping[str, Any], row: ArmRow) -> int:
        """Take an event of an arm; return how many epochs it tells of for the first time."""
        trial = int(fields.get("trial", 0))
        match event:
            case "start":
                row.running[trial] = fields.get("resumed_at", 0)
                row.params[trial] = fields["params"]
            case "epoch":
                new = max(0, fields["epoch"] - row.epochs.get(trial, 0))
                row.running[trial], row.metrics[trial] = fields["epoch"], fields["metrics"]
                row.epochs[trial] = row.epochs.get(trial, 0) + new
                return new
            case "end":
                self._end(row, fields)
            case "ranked" | "verified":
                table, value = row.ranked, fields.get("value")
                if event == "verified":
                    table, value = row.verified, fields["metrics"]["test/accuracy"]
                new = (trial, fields["seed"]) not in table
                table[trial, fields["seed"]] = value
                return self.sweep.train.epochs if new else 0
            case "winner":
                row.winner = trial
        return 0

    def _end(self, row: ArmRow, fields: Mapping[str, Any]) -> None:
        trial, value = fields["trial"], fields.get("value")
        row.running.pop(trial, None)
        row.ends[trial] = fields["end"]
        bounds, metrics = self.sweep.search.constraints, row.metrics.get(trial, {})
        feasible = all(metrics.get(metric, bound) <= bound for metric, bound in bounds.items())
        if fields["end"] == "finished" and feasible and value is not None and (not row.best or value > row.best[0]):
            row.best = value, trial

    def epochs_left(self) -> float:
        """Return how many epochs of students are still to be trained, if trials go on to end as early as they did."""
        ended = [row.epochs.get(trial, 0) for row in self.rows.values() for trial in row.ends]
        usual = sum(ended) / len(ended) if ended else self.sweep.trial_epochs()
        return sum(self._to_search(row, usual) + self._to_verify(row) for row in self.rows.values())

    def _to_search(self, row: ArmRow, usual: float) -> float:
        """The epochs that an arm's search has left, where a trial takes `usual` ones."""
        if not self._searching:
            return 0.0
        if self.sweep.search.fair == "compute":
            return max(0.0, self.trials * self.sweep.trial_epochs() - sum(row.epochs.values()))
        under_way = sum(max(0.0, usual - epoch) for epoch in row.running.values())
        return under_way + max(0, self.trials - len(row.ends) - len(row.running)) * usual

    def _to_verify(self, row: ArmRow) -> int:
        """The epochs of an arm's rankings and verifications that are left."""
        verify, candidates = self.sweep.verify, min(self.sweep.verify.top, self.trials)
        if not self._searching and not (row.winner is not None or row.best):
            return 0
        trainings = verify.seeds - sum(trial == row.winner for trial, _ in row.verified)
        if candidates > 1 and row.winner is None:
            trainings += candidates * verify.rank_seeds - len(row.ranked)
        return max(0, trainings) * self.sweep.train.epochs

    def left(self) -> float | None:
        """Return the seconds that the sweep will still take at its pace, None before it has one."""
        rate = self.pace.epochs_per_second()
        return None if rate is None else self.epochs_left() / rate

    def rates(self) -> list[str]:
        """Return the pace and the time left in words, as far as they are known."""
        hourly, rate, left = self.pace.trials_per_hour(), self.pace.epochs_per_second(), self.left()
        told = [f"{hourly:,.0f} trials/h" if hourly >= 100 else f"{hourly:.3g} trials/h"] if hourly is not None else []
        told += [f"{rate:.3g} epochs/s"] if rate is not None else []
        return told + ([f"about {clock(left)} left"] if left else [])

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
        running = " ".join(f"#{trial}:{epoch}/{self.sweep.trial_epochs()}" for trial, epoch in row.running.items())
        best, with_values = "", ""
        if row.best:
            best = f"{row.best[0]:.1%}"
            params = row.params.get(row.best[1], {})
            with_values = f"#{row.best[1]} " + " ".join(f"{_short(key)}={_value(v)}" for key, v in params.items())
        ends = [str(row.ended(word)) for word in ("finished", "stopped", "failed")]
        fresh = f"{len(row.verified)}/{self.sweep.verify.seeds}" if row.verified else ""
        return [arm, f"{len(row.ends)}/{self.trials}", *ends, running, fresh, best, with_values]

    def _headline(self) -> Text:
        spent = self.pace.spent(time.time() if self.driven else None)
        parts = [self.sweep.name, self.stage, self.note, f"{clock(spent)} spent", *self.rates()]
        return Text(" · ".join(part for part in parts if part), style="bold")


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
        """Take an event, and show it; a node that is left out stays in sight above the board."""
        self.board.event(event, fields)
        if self._console.is_terminal and event == "refused":
            self._console.print(_line(event, fields), markup=False)
        if not self._console.is_terminal and (line := _line(event, fields)):
            rates = self.board.rates() if event in ("end", "verified") else []
            print(" · ".join([line, *rates]), file=sys.stderr, flush=True)


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
        case "refused":
            return f"node {fields['node']} is left out: {fields['complaint']}"
        case "verified":
            metrics = fields["metrics"]
            return f"{fields['arm']} seed {fields['seed']}: test {metrics['test/accuracy']:.1%}"
    return None


def _short(key: str) -> str:
    return key.removeprefix("loss.").removesuffix(".name").rsplit(".", 1)[-1] if "relation" not in key else "relation"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """Return a time as ``minutes:seconds`` or ``hours:minutes:seconds``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
