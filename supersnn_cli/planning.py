"""The command `plan`: how many replicates and fresh seeds find a difference, and what they cost."""

from typing import Annotated, Any

import typer

from supersnn_cli.options import JsonOption, SetOption, StoreOption, SweepFiles
from supersnn_cli.printing import print_message, print_result


def plan(
    config: SweepFiles,
    set_: SetOption = [],  # noqa: B006 (typer reads it)
    detect: Annotated[float, typer.Option(help="The true difference that is to be found, in points.", min=1e-3)] = 1.0,
    pilot: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="A sweep in the store, whose variances and times are used.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many replicates and fresh seeds a sweep needs to find a difference, and what that costs."""
    from tune.description import sweep as sweeps
    from tune.description.allocation import allocation, without_pilot

    described = sweeps.load(config, tuple(set_))
    origin = sweeps.origin_of(config, set_)
    target = _target(described, origin)
    if pilot is None:
        print_message(
            "no --pilot: differences are in standard deviations; a first sweep with 3 replicates gives points"
        )
        print_result(without_pilot(described, origin) | target, _without_pilot_view, as_json)
        return
    print_result(allocation(described, origin, _pilots(pilot, store), detect / 100) | target, _view, as_json)


def _target(described: Any, origin: str) -> dict[str, Any]:
    """Return what students exceed of their target under `target`, nothing without one."""
    from tune.description.arms import resolve
    from tune.description.target import target_plan

    if described.target is None:
        return {}
    return {"target": target_plan(described, resolve(described, origin))}


def _target_lines(planned: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    from tune.description.target import target_lines

    return [escape(line) for line in target_lines(planned["target"])] if "target" in planned else []


def _pilots(name: str, store: Any) -> Any:
    from analysis.load import sweep as load_sweep
    from analysis.pilot import pilots
    from tune.store import Store

    return pilots(load_sweep(Store.at(store).existing(name).path))


def _view(planned: dict[str, Any]) -> Any:
    from rich.console import Group

    from supersnn_cli.printing import table_of
    from tune.description.allocation import rows, sentences

    return Group(table_of(rows(planned)), "", *sentences(planned), *_target_lines(planned))


def _without_pilot_view(planned: dict[str, Any]) -> Any:
    from rich.console import Group

    from supersnn_cli.printing import table_of

    lines = [
        "sd: of the difference of two searches of the same arm, with the file's fresh seeds of each winner.",
        "On digits with 20 trials of 36 epochs it was 0.3 to 0.5 points, with 8 short trials 1 to 4 points.",
    ]
    return Group(table_of(planned["replicates"]), "", *lines, *_target_lines(planned))
