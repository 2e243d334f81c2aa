"""Commands for a sweep: `sweep` runs or continues it, `verify` adds final runs, `status` shows its progress."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supersnn_cli.failures import exit_code, message
from supersnn_cli.options import (
    AddressOption,
    JsonOption,
    LocalOption,
    SetOption,
    SharedOption,
    StoreOption,
    SweepFiles,
)
from supersnn_cli.printing import print_message, print_result, print_results

if TYPE_CHECKING:
    from tune.description.sweep import SweepConfig
    from tune.store import Store, SweepFolder
    from tune.terminal.launch import SweepResult


def sweep(
    config: SweepFiles,
    set_: SetOption = [],  # noqa: B006 (typer reads it)
    store: StoreOption = None,
    address: AddressOption = None,
    local: LocalOption = False,
    shared: SharedOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check all that the sweep needs; print the plan, with hours, memory and disk; run nothing.",
        ),
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="With --dry-run: time a step, for the hours and the memory.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep, or continue it: teachers, search, verification, exports, report."""
    from tune.description import sweep as sweeps

    described = sweeps.load(config, tuple(set_))
    from tune.store import Store

    opened = Store.at(store, _shared_address(shared, local))
    origin = sweeps.origin_of(config, set_)
    if dry_run:
        from tune.description.arms import resolve
        from tune.description.inspection import inspect_sweep
        from tune.description.plan import plan

        arms = resolve(described, origin)
        planned = plan(described, arms, data := inspect_sweep(described, arms, opened, origin))
        if timing:
            from tune.terminal.forecast import forecast

            print_message("timing a step of each kind of training; --no-timing skips that")
            planned["forecast"] = forecast(described, arms, data, opened, _cluster(address, local), local)
        print_result(planned, _plan_view, as_json)
        return
    _run(described, opened, origin, address=address, local=local, as_json=as_json)


def _cluster(address: str | None, local: bool) -> str | None:
    return None if local else address or os.environ.get("RAY_ADDRESS") or None


def _plan_view(planned: dict[str, Any]) -> Any:
    """Return a plan, with its forecast where it has one, for a terminal."""
    from rich.console import Group

    from tune.description.plan import plan_table
    from tune.terminal.forecast import forecast_table

    found = planned.get("forecast")
    return Group(plan_table(planned), "", forecast_table(found)) if found else plan_table(planned)


def verify(
    sweep_name: Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep whose search has ended.")],
    seeds: Annotated[int | None, typer.Option(help="Verify each winner with this many fresh seeds.")] = None,
    store: StoreOption = None,
    address: AddressOption = None,
    local: LocalOption = False,
    shared: SharedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the final runs that a sweep's winners still lack, and export them, without searching."""
    from supersnn.config_model import with_values
    from tune.description import sweep as sweeps
    from tune.store import Store

    opened = Store.at(store, _shared_address(shared, local))
    file = opened.existing(sweep_name).config
    described = sweeps.load(file)
    if seeds is not None:
        described = with_values(described, {"verify.seeds": seeds}, "--seeds")
    _run(described, opened, str(file), address=address, local=local, as_json=as_json, searching=False)


def status(
    sweep_name: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="Name of a sweep; by default every sweep.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the progress, throughput and remaining time of sweeps, from any terminal."""
    from tune.store import Store
    from tune.terminal.status import board_of, summary

    opened = Store.at(store)
    names = [sweep_name] if sweep_name else opened.names()
    if not names:
        print_message(f"no sweeps in {opened.path}")
    folders = [opened.existing(name) for name in names]
    if sweep_name:
        _show([summary(folders[0]) if as_json else board_of(folders[0])], as_json)
        return
    shown, faults = _each(folders, summary if as_json else board_of)
    _show(shown, as_json)
    for fault in faults:
        print_message(fault)
    if faults:
        raise typer.Exit(1)


def _show(views: list[Any], as_json: bool) -> None:
    """Print the boards of sweeps, or their summaries as one JSON document."""
    if as_json:
        print(json.dumps(views))
        return
    from rich.console import Console

    for view in views:
        Console().print(view)


def _each(folders: "list[SweepFolder]", view: "Callable[[SweepFolder], Any]") -> tuple[list[Any], list[str]]:
    """Return the views of all sweeps that can be read, and a line for each of the others."""
    views, faults = [], []
    for folder in folders:
        try:
            views.append(view(folder))
        except Exception as error:
            if exit_code(error) is None:
                raise
            faults.append(message(error))
    return views, faults


def _shared_address(given: str | None, local: bool) -> str | None:
    """Return the object store's address: the option, else SUPERSNN_SHARED; None with `--local`."""
    if given and local:
        from supersnn.errors import UserError

        raise UserError(f"--shared {given}: cannot be combined with --local, which runs in one process")
    return None if local else given or os.environ.get("SUPERSNN_SHARED") or None


def _run(
    described: "SweepConfig",
    store: "Store",
    origin: str,
    *,
    address: str | None,
    local: bool,
    as_json: bool,
    searching: bool = True,
) -> None:
    """Run the rest of a sweep and print its results."""
    from tune.terminal.launch import launch

    try:
        result = launch(described, store, origin, address, local, searching)
    except KeyboardInterrupt:
        print_message(f"interrupted; run the same command to continue: {shlex.join(['supersnn', *sys.argv[1:]])}")
        raise
    _print_sweep(store, result, as_json)
    if not result.any_winner:
        print_message("no arm has a winner")
        raise typer.Exit(1)


def _print_sweep(store: "Store", result: "SweepResult", as_json: bool) -> None:
    from analysis import load, report

    tables = load.sweep(result.folder.path)
    if not report.up_to_date(result.folder.path):
        report.write_html([tables], result.folder.report)
    if as_json:
        print(json.dumps(report.results(tables)))
        return
    print_results(report.results(tables))
    print()
    if not result.worked:
        print_message("nothing left to do")
    if result.pending:
        print_message(f"{result.pending} events are still to be sent to MLflow; run the same command to send them")
    print(f"report   {result.folder.report}\nbest     {result.folder.best}\nsweep    {result.folder.path}")
    print(f"MLflow   supersnn ui --store {store.path}")
