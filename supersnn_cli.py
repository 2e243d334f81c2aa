"""The command line: each subcommand opens its floor only when it runs. Tables and JSON go to standard output,
progress and complaints to standard error; exit 0 done, 1 our fault or a failed check, 2 the user's mistake, 130
interrupted.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supersnn_print import epoch_line, print_results, rows, say, show, two_columns

if TYPE_CHECKING:
    from tune.description.arms import Arm
    from tune.description.sweep import SweepConfig
    from tune.store import Store

app = typer.Typer(
    help="Search, train, verify and export spiking networks taught by artificial ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[Path | None, typer.Option("--store", help="The store [SUPERSNN_STORE, else supersnn-store].")]
SetOption = Annotated[list[str], typer.Option("--set", help="Replace a value: dotted.key=value (YAML).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep's YAML file.")],
    set_: SetOption = [],  # noqa: B006 (typer reads it)
    store: StoreOption = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to join [RAY_ADDRESS, else this machine].")] = None,
    local: Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")] = False,
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

    _conduct(described, arms, Store.at(store), (address, local), as_json, str(config), f"supersnn sweep {config}")


@app.command()
def verify(
    sweep_name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep of the store whose search has ended.")],
    seeds: Annotated[int | None, typer.Option(help="Verify each winner with this many fresh seeds.")] = None,
    store: StoreOption = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to join [RAY_ADDRESS, else this machine].")] = None,
    local: Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a sweep's winners with what is lacking of their fresh seeds, and export them; search nothing."""
    from supersnn.config import with_values
    from tune.description import sweep as sweeps
    from tune.description.arms import resolve
    from tune.store import Store

    place = Store.at(store)
    file = place.existing(sweep_name).config
    described = sweeps.load(file)
    if seeds is not None:
        described = with_values(described, {"verify.seeds": seeds}, "--seeds")
    again = f"supersnn verify {sweep_name}"
    _conduct(described, resolve(described, str(file)), place, (address, local), as_json, str(file), again, False)


def _conduct(
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
    from tune.terminal.drive import drive

    try:
        done = drive(described, arms, place, origin, *where, searching)
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


@app.command()
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


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="An export folder.")], as_json: JsonOption = False) -> None:
    """Load an export, evaluate it again, compare with what it says; exit 1 where it differs or is damaged."""
    import torch

    from supersnn import checking

    found = checking.check(folder, "cuda" if torch.cuda.is_available() else "cpu")
    table = [{**vars(one), "agrees": one.agrees} for one in found]
    show({"folder": str(folder), "figures": table} if as_json else table, rows, as_json)
    if not all(one.agrees for one in found):
        say(f"{folder}: what was found again is not what the export says")
        raise typer.Exit(1)


@app.command()
def train(
    file: Annotated[Path, typer.Argument(help="A training's YAML file, or an exported config.yaml.")],
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = None,
    to: Annotated[Path | None, typer.Option(help="Write the trained student as an export folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train one student; a missing teacher or bank is built first, by the same code as in a sweep."""
    import torch

    from supersnn.bank import guide_for
    from supersnn.config import load, with_values
    from supersnn.data import training_data
    from supersnn.training import train as train_student
    from tune.description.sweep import parse_override
    from tune.store import Store

    config = with_values(load(file), dict(parse_override(text) for text in set_), str(file))
    if to is not None:
        from supersnn import exported

        exported.ensure_replaceable(to)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = training_data(config.dataset, device)
    guide = guide_for(config, data, Store.at(store).path, device)
    seconds, report = 0.0, None
    for report in train_student(config, data, guide, device=device):
        seconds += report.metrics["time/epoch_s"]
        say(epoch_line(report, config.train.epochs))
    assert report is not None
    if to is not None:
        from supersnn.checkpoint import student_weights

        found = {"val_accuracy": report.metrics.get("val/accuracy"), "seed": config.seed}
        exported.write(to, config, student_weights(report.snapshot()[0]), exported.Preprocessing.of(data), found)
    result = {
        "val_accuracy": report.metrics.get("val/accuracy"),
        "epochs": report.epoch,
        "spike_rate": report.metrics.get("spikes/rate"),
        "synaptic_ops": report.metrics.get("ops/synaptic"),
        "energy_nj": report.metrics.get("energy/nj"),
        "seconds": seconds,
        "ended": report.ended,
    }
    show(result, two_columns, as_json)


@app.command()
def teach(
    config: Annotated[Path, typer.Argument(help="A sweep's YAML file.")],
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a sweep's teachers and fill their banks, and nothing else."""
    from tune.description import sweep as sweeps
    from tune.description.arms import resolve
    from tune.execution.local import LocalExecutor
    from tune.execution.prepare import prepare
    from tune.store import Store

    arms = resolve(sweeps.load(config, tuple(set_)), str(config))
    found = [fields for done in prepare(arms, Store.at(store).path, LocalExecutor()) for _, fields in done.events()]
    show(found, rows, as_json)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    data: Annotated[str, typer.Option(help="A data set by name, or folder:PATH; its test part is opened.")],
    as_json: JsonOption = False,
) -> None:
    """Measure an exported student on a test set; the opening is written down beside the export."""
    from supersnn import exported
    from supersnn.evaluation import evaluate as measure
    from supersnn.held_out import open_test

    student = exported.load(folder)
    dataset = student.config.dataset.model_copy(update={"name": data})
    test = open_test(dataset, folder / exported.LEDGER, f"evaluate {folder.name}")
    found = measure(student.module, test, student.preprocessing.mean, student.preprocessing.std)
    result = {
        "images": found.images,
        "accuracy": found.accuracy,
        "top5": found.top5,
        "loss": found.loss,
        "per_class": dict(zip(student.preprocessing.classes, found.per_class, strict=True)),
        "spike_rate": found.rate,
        "rates": found.rates,
    }
    show(result, two_columns, as_json)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    as_json: JsonOption = False,
) -> None:
    """Classify image files with an exported student."""
    from supersnn import exported

    student = exported.load(folder)
    show([{"image": str(path), **student.classify(path)} for path in images], rows, as_json)


@app.command()
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


@app.command()
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


data_app = typer.Typer(help="The data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List the data sets, and which of them are here."""
    from supersnn.sources import registry

    show(registry.available(), rows, as_json)


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="A data set's name.")]) -> None:
    """Fetch a data set, or say which files to put where."""
    from supersnn.sources import registry

    registry.fetch(name)
    say(f"{name} is here")


@app.command()
def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Look whether everything is here that a sweep needs; exit 1 where something is missing."""
    from tune.store import Store
    from tune.terminal.doctor import examine

    findings = examine(Store.at(store))
    show([vars(finding) for finding in findings], rows, as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def init(file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml")) -> None:
    """Write a commented sweep file to begin with."""
    from tune.description.starter import write

    write(file)
    say(f"{file} is written; `supersnn sweep {file} --dry-run` shows what it would do")


@app.command()
def ui(
    store: StoreOption = None,
    host: Annotated[str, typer.Option(help="Where to listen; only this machine unless told.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 5000,
) -> None:
    """Open the store's MLflow UI, with the addresses of each sweep's comparison views."""
    from tune.store import Store
    from tune.tracking import server

    raise typer.Exit(server.serve(Store.at(store).path, host, port))


def main() -> None:
    """Run the command line; a mistake of the user's becomes one line and exit code 2."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        say(f"supersnn: {error}")
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """2 for the user's mistakes, 1 for a damaged file, None for what is a fault of ours and shows its traceback."""
    from analysis.errors import UserError as AnalysisError
    from supersnn.checkpoint import DamagedFile
    from supersnn.errors import UserError

    if isinstance(error, UserError | AnalysisError):
        return 2
    return 1 if isinstance(error, DamagedFile) else None


if __name__ == "__main__":
    main()
