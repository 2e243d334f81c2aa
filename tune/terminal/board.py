"""The board: a sweep's state drawn for a terminal, with its throughput and the time left."""

import time
from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from supersnn.errors import shortened
from supersnn.records import steering
from supersnn.records.events import (
    AnyEvent,
    PrecisionLooked,
    SweepClosed,
    SweepStarted,
    TeacherTrained,
    TrialEnd,
    TrialStarted,
)
from supersnn.records.nodes import slow_text
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState
from tune.description.replication import replicates_now, until
from tune.description.sweep import SweepConfig
from tune.terminal.rows import Row, rows
from tune.terminal.silence import silent, unreported
from tune.terminal.throughput import epochs_per_second, trials_per_hour

ENDS: tuple[TrialEnd, ...] = ("finished", "stopped", "failed")


class Board:
    """A view of a sweep's state; the same beside its driver and in a second terminal.

    Attributes:
        sweep: its configuration.
        state: its state, which goes on changing.
        stage: what the driver is doing.
        note: what it has done last, where no table shows it.
        working: what it is at, where no table shows it; see `work_on`.
        driven: whether a driver is at work.
        requests: what people asked for that the driver has not taken up yet, a line for each.
    """

    def __init__(self, sweep: SweepConfig, state: SweepState) -> None:
        self.sweep, self.state = sweep, state
        self.stage, self.note, self.working = "starting", "", ""
        self._since = time.monotonic()
        self.driven = False
        self.requests: list[str] = []

    @property
    def rows(self) -> list[Row]:
        """Every arm of the sweep on each data set, in the order of its file; one without a trial yet is empty."""
        return list(rows(self.sweep, self.state))

    @property
    def trials(self) -> int:
        """How many trials a search is to have."""
        return self.sweep.search.trials

    def event(self, event: AnyEvent) -> None:
        """Take an event that the state has already."""
        match event:
            case SweepStarted():
                self.driven = True
            case SweepClosed():
                self.driven = False
            case TeacherTrained():
                accuracy = event.val_accuracy
                self.note = event.name if accuracy is None else f"{event.name} {accuracy:.1%}"
            case TrialStarted():
                self.note = ""

    def work_on(self, text: str) -> None:
        """Show a piece of work, empty for none, and for how long it has been under way."""
        self.working, self._since = text, time.monotonic()

    def epochs_left(self) -> float:
        """Return how many epochs of students are left to be trained, if trials go on to end as early as they did."""
        searches = [search for row in self.rows for search in row.searches]
        ended = sum(search.ended for search in searches)
        usual = sum(one.ended_epochs for one in searches) / ended if ended else float(self.sweep.trial_epochs())
        return sum(self._left_to_search(search, usual) + self._left_to_verify(search) for search in searches)

    def seconds_left(self) -> float | None:
        """Return the seconds that the sweep will still take at its throughput; None before any, and while it waits."""
        if self.driven and (self.state.waiting or self._only_silent()):
            return None
        rate = epochs_per_second(self.state.drivers)
        return None if rate is None else self.epochs_left() / rate

    def seconds_spent(self) -> float:
        """Return the seconds in which a driver was at work."""
        return self.state.driver_seconds(time.time() if self.driven else None)

    def rates(self) -> list[str]:
        """Return throughput and time left as texts, as far as they are known."""
        drivers = self.state.drivers
        hourly, rate, left = trials_per_hour(drivers), epochs_per_second(drivers), self.seconds_left()
        texts = [f"{hourly:,.0f} trials/h" if hourly >= 100 else f"{hourly:.3g} trials/h"] if hourly is not None else []
        texts += [f"{rate:.3g} epochs/s"] if rate is not None else []
        return texts + ([f"about {clock(left)} left"] if left else [])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the board: what a narrow terminal has no room for is left out, the best values last."""
        del console
        yield self._headline()
        yield self._table(options.max_width)
        yield from (Text(line, style="yellow") for line in self.troubles())
        yield from (Text(line) for line in (*self._looked(), *self._asked()))
        yield from (
            Text(fault, style="yellow") for fault in (*slow_text(self.state.nodes.values()), *self.state.faults)
        )

    def troubles(self) -> list[str]:
        """Return what the driver waits for, which trials have reported nothing for long, and how many not at all."""
        if not self.driven:
            return []
        lines = [f"waits for {self.state.waiting}"] if self.state.waiting else []
        late = silent(self.state, time.time())
        lines += [f"{name}: no report for {clock(seconds)}" for name, seconds in late[:_NAMED]]
        lines += [f"and {len(late) - _NAMED} more"] if len(late) > _NAMED else []
        if waiting := unreported(self.state, time.time()):
            (first, longest), more = waiting[0], len(waiting) - 1
            who = f"{first} and {more} more wait" if more else f"{first} waits"
            lines.append(f"{who} for a node or a first epoch, for {clock(longest)}")
        return lines

    def _only_silent(self) -> bool:
        """Return whether trials are under way, and none of them reports."""
        running = sum(len(search.running) for search in self.state.searches.values())
        now = time.time()
        return bool(running) and len(silent(self.state, now)) + len(unreported(self.state, now)) == running

    def _looked(self) -> list[str]:
        """Return how well the differences are known, where the replicates depend on it."""
        return [look_line(self.state.looks[-1])] if until(self.sweep) and self.state.looks else []

    def _asked(self) -> list[str]:
        """Return what people asked for and what holds of it now: paused arms, given trials, pending requests."""
        paused = sorted(steering.paused(self.state))
        named = shortened(", ".join(paused), 200)
        lines = [f"paused: {named}; `supersnn resume {self.sweep.name}` goes on"] if paused else []
        searches = {search.name for row in self.rows for search in row.searches}
        for name in sorted(self.state.searches.keys() | searches) if self.state.requests else ():
            if waiting := steering.given(self.state, name):
                lines.append(f"{name}: {len(waiting)} given trial{'s' * (len(waiting) > 1)} to come")
        return lines + [f"asked, not taken up yet: {line}" for line in self.requests]

    def _table(self, width: int) -> Table:
        """Return the arms as a table: without ``with``, without the running trials' epochs where they do not fit."""
        rows, one = self.rows, replicates_now(self.sweep, self.state) == 1
        for epochs, values in ((True, one), (True, False), (False, False)):
            cells = [self._cells(row, epochs) for row in rows]
            columns = zip([title for title, _ in _COLUMNS], *cells, strict=True)
            widths = [max(map(cell_len, column)) for column in columns]
            left = width - sum(widths) - _GAP * (len(widths) - 1)
            if left >= (_GAP + _LEAST_VALUES if values else 0):
                break
        table = Table(box=None, pad_edge=False, header_style="bold", expand=values)
        widths[0] = max(_LEAST_NAME, widths[0] + min(0, left))
        for (title, justify), column_width in zip(_COLUMNS, widths, strict=True):
            table.add_column(title, justify=justify, no_wrap=True, overflow="ellipsis", width=column_width)
        if values:
            table.add_column("with", ratio=1, no_wrap=True, overflow="ellipsis")
        for row, texts in zip(rows, cells, strict=True):
            table.add_row(*map(Text, [*texts, self._values(row)] if values else texts))
        return table

    def _left_to_search(self, search: SearchRecord, usual: float) -> float:
        """Return the epochs that a search has left, where a trial takes `usual` ones."""
        if not self.state.searching:
            return 0.0
        if self.sweep.search.fair == "compute":
            return max(0.0, self.trials * self.sweep.trial_epochs() - search.epochs)
        running = list(search.running.values())
        waiting = max(0, self.trials - search.ended - len(running))
        return sum(max(0.0, usual - epoch) for epoch in running) + waiting * usual

    def _left_to_verify(self, search: SearchRecord) -> int:
        """Return the epochs of a search's rankings and verifications that are left."""
        verify, candidates = self.sweep.verify, min(self.sweep.verify.top, self.trials)
        if not self.state.searching and search.winner is None and search.best is None:
            return 0
        trainings = verify.seeds - len(search.verified.get(search.winner.trial, {}) if search.winner else ())
        if candidates > 1 and search.winner is None:
            trainings += candidates * verify.rank_seeds - sum(map(len, search.ranked.values()))
        return max(0, trainings) * self.sweep.train.epochs

    def _cells(self, row: Row, epochs: bool) -> list[str]:
        """Return the texts of a row but the best trial's values; `epochs`: with those of running trials."""
        value, replicates = row.best_value(), len(row.searches)
        best = "" if value is None else f"{value:.1%}"
        ends = [str(row.count(end)) for end in ENDS]
        seeds = row.verified()
        verified = f"{seeds}/{self.sweep.verify.seeds * replicates}" if seeds else ""
        running = row.running()
        under_way = self._running(running) if epochs else str(len(running) or "")
        return [row.name, f"{row.ended}/{self.trials * replicates}", *ends, under_way, verified, best]

    def _running(self, running: Mapping[str, int]) -> str:
        """Return running trials with their epochs; of many their number, and the slowest and the fastest one."""
        of = self.sweep.trial_epochs()
        if len(running) <= _FEW:
            return " ".join(f"{trial}:{epoch}/{of}" for trial, epoch in running.items())
        return f"{len(running)} at {min(running.values())}–{max(running.values())}/{of}"

    def _values(self, row: Row) -> str:
        """Return the number and the sampled values of the best trial of a row with one search."""
        if row.one is None or (trial := row.one.best_trial) is None:
            return ""
        return f"#{trial.number} " + " ".join(f"{_short(key)}={_value(v)}" for key, v in trial.params.items())

    def _headline(self) -> Text:
        working = f"{self.working} for {clock(time.monotonic() - self._since)}" if self.working else ""
        spent = [f"{clock(self.seconds_spent())} spent"]
        if self.state.costs.gpu_hours():
            spent.append(f"{self.state.costs.gpu_hours():.3g} GPU-hours")
        parts = [self.sweep.name, self.stage, self.note, working, *spent, *self.rates()]
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
_NAMED = 5
"""Silent trials that are named."""
_FEW = 2
"""Running trials that are shown one by one."""
_GAP = 2
"""Characters between two columns."""
_LEAST_VALUES, _LEAST_NAME = 16, 4
"""Characters below which the column ``with`` is left out, and to which an arm's name may be cut."""


def look_line(look: PrecisionLooked) -> str:
    """Return as one line how well a sweep's differences are known after some replicates, and what follows."""
    known = "no interval yet" if look.half_width is None else f"±{100 * look.half_width:.2f} points"
    place = f" on {look.dataset}" if look.dataset else ""
    widest = f", the widest of {look.a} − {look.b}{place}" if look.half_width is not None else ""
    if look.next > look.replicates:
        after = "one is added"
    else:
        after = "enough" if look.half_width is not None and look.half_width <= look.until else "no more are added"
    return f"{look.replicates} replicates: {known}{widest}; to be ±{100 * look.until:g} points: {after}"


def clock(seconds: float) -> str:
    """Return a duration as ``minutes:seconds`` or ``hours:minutes:seconds``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(key: str) -> str:
    return key.removeprefix("loss.").removesuffix(".name").rsplit(".", 1)[-1] if "relation" not in key else "relation"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
