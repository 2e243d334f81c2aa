"""Commands that steer a sweep while it runs, or before its next driver: each leaves a request in the sweep's folder."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supersnn_cli.options import JsonOption, StoreOption
from supersnn_cli.printing import print_message
from supersnn_cli.trials import SweepArgument, TrialArgument

if TYPE_CHECKING:
    from supersnn.records.events import RequestTaken
    from tune.description.sweep import SweepConfig
    from tune.requests import Request
    from tune.store import SweepFolder

WAIT = 10.0
"""Seconds for which a command waits until a running driver has taken its request up."""

ArmArgument = Annotated[str, typer.Argument(metavar="ARM", help="An arm of the sweep.")]
OptionalArm = Annotated[str | None, typer.Argument(metavar="ARM", help="An arm of the sweep; by default all of them.")]
Values = Annotated[list[str], typer.Argument(metavar="key=value...", help="Values by dotted key (YAML).")]


def enqueue(
    sweep_name: SweepArgument, arm: ArmArgument, values: Values, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Give an arm's next trial these values; what is not given is sampled. It counts as one of the arm's trials."""
    from tune.description.arms import resolve
    from tune.description.references import check_enqueued
    from tune.requests import Request

    folder, sweep = _sweep(sweep_name, store)
    _require_arm(folder, sweep, arm)
    given = _parsed(values)
    resolved = resolve(sweep, str(folder.config))
    check_enqueued(arm, given, {name: one for name, one in resolved.items() if name == arm} or resolved)
    _ask(folder, Request("enqueue", arm, values=given), as_json)


def retry(
    sweep_name: SweepArgument, trial: TrialArgument, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Run a failed trial again, as another trial with the same values; the failed one no longer counts as spent."""
    from supersnn.records.steering import require_retriable
    from tune.outcome.export import parse_trial
    from tune.requests import Request

    folder, sweep = _sweep(sweep_name, store)
    arm, number = parse_trial(trial)
    _require_arm(folder, sweep, arm)
    require_retriable(_state(folder, sweep), arm, number)
    _ask(folder, Request("retry", arm, trial=number), as_json)


def pause(
    sweep_name: SweepArgument, arm: OptionalArm = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Pause an arm, or all: its trials stop after their current epoch, and go on from there when it is resumed."""
    _pause_or_resume("pause", sweep_name, arm, store, as_json)


def resume(
    sweep_name: SweepArgument, arm: OptionalArm = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Let a paused arm, or all, go on."""
    _pause_or_resume("resume", sweep_name, arm, store, as_json)


def stop(sweep_name: SweepArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Interrupt the sweep's driver, as Ctrl-C does: nothing is lost, and `supersnn sweep` continues."""
    from tune.requests import Request
    from tune.sweep_lock import is_locked

    folder, sweep = _sweep(sweep_name, store)
    if is_locked(folder) is False:
        print_message(f"sweep {sweep_name}: no driver is at work")
        if as_json:
            print(json.dumps({"kind": "stop", "state": "not running"}))
        return
    drivers = _state(folder, sweep).drivers
    _ask(folder, Request("stop", driver=drivers[-1].driver if drivers else None), as_json)


def change(sweep_name: SweepArgument, values: Values, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Change a sweep that has begun: how much is done, on what machines, further arms, choices and wider ranges."""
    from supersnn.records.steering import begun
    from tune.description.changes import changed, require_allowed
    from tune.requests import Request

    folder, sweep = _sweep(sweep_name, store)
    given = _parsed(values)
    after = changed(sweep, given, "change")
    state = _state(folder, sweep)
    if state.ran:
        require_allowed(sweep, after, begun(state))
    _ask(folder, Request("change", values=given), as_json)


def _pause_or_resume(kind: Any, sweep_name: str, arm: str | None, store: Any, as_json: bool) -> None:
    from tune.requests import Request

    folder, sweep = _sweep(sweep_name, store)
    if arm is not None:
        _require_arm(folder, sweep, arm)
    _ask(folder, Request(kind, arm or ""), as_json)


def _sweep(name: str, store: Any) -> "tuple[SweepFolder, SweepConfig]":
    from supersnn.config_model import parse
    from supersnn.plain_yaml import read_yaml
    from tune.description.sweep import SweepConfig
    from tune.store import Store

    folder = Store.at(store).existing(name)
    return folder, parse(SweepConfig, read_yaml(folder.config), str(folder.config))


def _state(folder: "SweepFolder", sweep: "SweepConfig") -> Any:
    from supersnn.records.snapshot import current_state

    return current_state(folder.snapshot, folder.journal, sweep.search.constraints)[0]


def _require_arm(folder: "SweepFolder", sweep: "SweepConfig", arm: str) -> None:
    """Check that a sweep has an arm, or a search, of a name."""
    from supersnn.errors import UserError, nearest
    from supersnn.records.searches import SearchId

    if SearchId.parse(arm).arm not in sweep.arms:
        raise UserError(
            f"{folder.path.name}: no arm {arm!r}{nearest(arm, sweep.arms)}; its arms: {', '.join(sweep.arms)}"
        )


def _parsed(texts: list[str]) -> dict[str, Any]:
    from supersnn.errors import UserError, shortened
    from supersnn.plain_yaml import parse_yaml

    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"{shortened(text)}: expected key=value")
        try:
            values[key] = parse_yaml(value)
        except ValueError as error:
            raise UserError(f"{shortened(text)}: {error}") from error
    return values


def _ask(folder: "SweepFolder", request: "Request", as_json: bool) -> None:
    """Leave a request, and wait a little for a running driver to take it up.

    Raises:
        UserError: the driver has refused it.
    """
    from supersnn.errors import UserError
    from tune.requests import submit
    from tune.sweep_lock import is_locked

    start = folder.journal.stat().st_size if folder.journal.exists() else 0
    submit(folder, request)
    running = is_locked(folder)
    taken = _taken(folder, request, start) if running else None
    if taken is not None and taken.refused is not None:
        raise UserError(f"{request.kind}: refused: {taken.refused}")
    if as_json:
        print(json.dumps({"id": request.id, "kind": request.kind, "state": "taken" if taken else "pending"}))
    if taken is not None:
        print_message(f"{request.text()}: taken up")
    elif running is False:
        print_message(f"{request.text()}: asked; the next driver takes it up")
    else:
        print_message(f"{request.text()}: asked; `supersnn status {folder.path.name}` shows whether it was taken up")


def _taken(folder: "SweepFolder", request: "Request", start: int) -> "RequestTaken | None":
    """Return the event of a request once the journal has it, None where it has none in time."""
    from supersnn.records import journal
    from supersnn.records.events import RequestTaken

    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        for event, _ in journal.read(folder.journal, start, kinds=("request",)):
            if isinstance(event, RequestTaken) and event.id == request.id:
                return event
        time.sleep(0.2)
    return None
