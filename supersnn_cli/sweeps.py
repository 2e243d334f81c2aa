"""A sweep as a whole: run, verified further, looked at."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supersnn_cli.options import AddressOption, JsonOption, LocalOption, SetOption, SharedOption, StoreOption
from supersnn_cli.printing import print_results, say, show

if TYPE_CHECKING:
    from tune.description.arms import Arm
    from tune.description.sweep import SweepConfig
    from tune.store import Store


def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep's YAML file.")],
    set_: SetOption = [],  # noqa: B006 (typer reads it)
    store: StoreOption = None,
    address: AddressOption = None,
    local: LocalOption = False,
    shared: SharedOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the plan; start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep, or continue it: teachers, search, verification, export, report."""
    from tune.description import sweep as sweeps
    from tune.description.arms import resolve
    from tune.description.plan import plan, plan_table

    described = sweeps.load(config, tuple(set_))
    arms = resolve(described, str(config))
    if dry_run:
        show(plan(described, arms), plan_table, as_json)
        return
    from tune.store import Store

    place = Store.at(store, _shared(shared, local))
    _run(described, arms, place, (address, local), as_json, str(config), f"supersnn sweep {config}")


def verify(
    sweep_name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep of the store whose search has ended.")],
    seeds: Annotated[int | None, typer.Option(help="Verify each winner with this many fresh seeds.")] = None,
    store: StoreOption = None,
    address: AddressOption = None,
    local: LocalOption = False,
    shared: SharedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a sweep's winners with what is lacking of their fresh seeds, and export them; search nothing."""
    from supersnn.config_model import with_values
    from tune.description import sweep as sweeps
    from tune.description.arms import resolve
    from tune.store import Store

    place = Store.at(store, _shared(shared, local))
    file = place.existing(sweep_name).config
    described = sweeps.load(file)
    if seeds is not None:
        described = with_values(described, {"verify.seeds": seeds}, "--seeds")
    again = f"supersnn verify {sweep_name}"
    _run(described, resolve(described, str(file)), place, (address, local), as_json, str(file), again, False)


def status(
    sweep_name: Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="Without it, all sweeps.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a sweep is, from a second terminal."""
    from tune.store import Store
    from tune.terminal.status import board_of, summary

    place = Store.at(store)
    names = [sweep_name] if sweep_name else place.names()
    folders = [place.existing(name) for name in names]
    if as_json:
        print(json.dumps([summary(folder) for folder in folders]))
        return
    from rich.console import Console

    for folder in folders:
        Console().print(board_of(folder))


def _shared(given: str | None, local: bool) -> str | None:
    """The address that was named, else the environment's SUPERSNN_SHARED; none in a single process."""
    if given and local:
        from supersnn.errors import UserError

        raise UserError(f"--shared {given}: expected no --local beside it: one process shares nothing")
    return None if local else given or os.environ.get("SUPERSNN_SHARED") or None


def _run(
    described: "SweepConfig",
    arms: "dict[str, Arm]",
    place: "Store",
    where: tuple[str | None, bool],
    as_json: bool,
    origin: str,
    again: str,
    searching: bool = True,
) -> None:
    """Do what is left of a sweep, on the cluster at an address or in this process, and report it."""
    from tune.terminal.launch import launch

    try:
        done = launch(described, place, origin, *where, searching)
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on from here: {again}")
        raise
    _report_sweep(place, done, as_json)


def _report_sweep(place: Any, done: Any, as_json: bool) -> None:
    from analysis import load, report

    tables = load.sweep(done.folder.path)
    if done.worked or not done.folder.report.exists():
        report.write_html([tables], done.folder.report)
    if as_json:
        print(json.dumps(report.results(tables)))
        return
    print_results(report.results(tables))
    print()
    if not done.worked:
        say("nothing was left to do")
    if done.pending:
        say(f"{done.pending} events still wait for MLflow; they are sent when the sweep is started again")
    print(f"report   {done.folder.report}\nbest     {done.folder.best}\nsweep    {done.folder.path}")
    print(f"MLflow   supersnn ui --store {place.path}")
