"""What a sweep came to: export folders, tables, verdicts, the page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption, StoreOption
from supersnn_cli.printing import print_results, rows, say, show, two_columns


def export(
    sweep_name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep of the store.")],
    to: Annotated[Path, typer.Option(help="The folder to write; one that is there is replaced.")],
    arm: Annotated[str | None, typer.Option(help="An arm's verified winner, instead of the best arm's.")] = None,
    trial: Annotated[str | None, typer.Option(help="One trial, ARM/N; an unverified one is trained again.")] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Every trial no other beats in accuracy and operations.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a sweep's best student, or others of it, as folders that prove themselves."""
    from supersnn.errors import UserError
    from tune.outcome.export import Exporter, parse_trial
    from tune.store import Store

    if (arm is not None) + (trial is not None) + pareto > 1:
        raise UserError("--arm, --trial, --pareto: expected one of them at most")
    place = Store.at(store)
    exporter = Exporter(place.existing(sweep_name), place)
    if pareto:
        show(exporter.front(to), rows, as_json)
        return
    metrics = exporter.trial(*parse_trial(trial), to) if trial else exporter.arm(arm or exporter.best_arm(), to)
    if metrics["reproduced"] is False:
        say("its training did not come to the accuracy that the search recorded; metrics.json says what it came to")
    keys = ("arm", "trial", "seed", "val_accuracy", "test_accuracy", "test_mean", "verified_seeds", "reproduced")
    show({"folder": str(to), **{key: metrics[key] for key in keys}}, two_columns, as_json)


def report(
    sweeps: Annotated[list[str], typer.Argument(help="Sweeps of the store, by name.")],
    store: StoreOption = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the tables into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer the question that sweeps were run for: tables, verdicts, the page."""
    from analysis import load
    from analysis import report as reports
    from tune.store import Store

    place = Store.at(store)
    tables = [load.sweep(place.existing(name).path) for name in sweeps]
    if html is not None:
        reports.write_html(tables, html)
    if csv is not None:
        for one in tables:
            reports.write_csv(one, csv)
    results = [reports.results(one) for one in tables]
    if as_json:
        print(json.dumps(results[0] if len(results) == 1 else results))
    else:
        for result in results:
            print_results(result)
