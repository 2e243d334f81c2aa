"""Commands that read a sweep: `export` writes export folders, `report` prints results and writes the report page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption, StoreOption
from supersnn_cli.printing import key_value_table, print_message, print_pooled, print_result, print_results, table_of


def export(
    sweep_name: Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep in the store.")],
    to: Annotated[Path, typer.Option(help="The folder to write; an existing export folder is replaced.")],
    arm: Annotated[
        str | None, typer.Option(help="Export this arm's verified winner instead of the best arm's.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The data set, by its label, where the sweep has several.")
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(help="Export one trial, ARM/N or SEARCH/N; retrained if it is not verified."),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Export every trial on the front of accuracy and synaptic operations.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a sweep's best student, or selected trials, as self-checking folders."""
    from supersnn.errors import UserError, prefix_errors
    from tune.outcome.export import Exporter, parse_trial, warnings_of
    from tune.store import Store

    if (arm is not None) + (trial is not None) + pareto > 1:
        raise UserError("--arm, --trial, --pareto: expected one of them at most")
    opened = Store.at(store)
    exporter = Exporter(opened.existing(sweep_name), opened)
    if trial and dataset is not None:
        raise UserError("--trial, --dataset: a trial's name says its data set; expected one of them at most")
    label = None if trial else exporter.label(dataset)
    if pareto:
        rows = exporter.front(to, label)
        for line in exporter.warnings:
            print_message(f"warning: {line}")
        print_result(rows, table_of, as_json)
        return
    if trial:
        with prefix_errors("--trial", " "):
            search, number = parse_trial(trial)
        metrics = exporter.trial(search, number, to)
    else:
        metrics = exporter.arm(arm or exporter.best_arm(label), to, label)
    if metrics["reproduced"] is False:
        print_message("retraining did not reproduce the accuracy that the search recorded; see metrics.json")
    for line in (*exporter.warnings, *warnings_of(metrics)):
        print_message(f"warning: {line}")
    keys = ("arm", "trial", "seed", "val_accuracy", "test_accuracy", "test_mean", "verified_seeds", "reproduced")
    print_result({"folder": str(to), **{key: metrics[key] for key in keys}}, key_value_table, as_json)


def report(
    sweeps: Annotated[list[str], typer.Argument(help="Names of sweeps in the store.")],
    store: StoreOption = None,
    html: Annotated[Path | None, typer.Option(help="Write the report page to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the tables as CSV into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the results and verdicts of sweeps, finished or running; optionally write the page and the tables."""
    from analysis import load
    from analysis import report as reports
    from analysis.tables import collect
    from tune.store import Store

    opened = Store.at(store)
    loaded = [load.sweep(opened.existing(name).path) for name in sweeps]
    if html is not None:
        reports.write_html(loaded, html)
    if csv is not None:
        reports.write_csv(collect(loaded), csv)
    results = [reports.results(tables) for tables in loaded]
    together = reports.pooled(loaded) if len(loaded) > 1 else []
    if as_json:
        for result in results:
            result["pooled"] = next((said for said in together if result["sweep"] in said["sweeps"]), None)
        print(json.dumps(results[0] if len(results) == 1 else results))
    else:
        for result in results:
            print_results(result)
        for said in together:
            print_pooled(said)
