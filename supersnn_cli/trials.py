"""Commands for the trials of a sweep: `trials` lists them, `show` prints one as a training file."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supersnn_cli.options import JsonOption, StoreOption
from supersnn_cli.printing import cell, print_message, print_result

if TYPE_CHECKING:
    import pandas as pd

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep in the store.")]
TrialArgument = Annotated[str, typer.Argument(metavar="ARM/N", help="A trial, as direct/3; of replicate 2 direct~2/3.")]

SHOWN = ("state", "epochs", "value", "feasible", "spikes/rate", "ops/synaptic", "seconds")
"""The columns of the table in a terminal beside the trial's name and the sampled values; JSON and CSV have all."""
WIDE = 100
"""Columns of a terminal from which the table has all of these."""


def trials(
    sweep_name: SweepArgument,
    arm: Annotated[list[str], typer.Option(help="Only trials of this arm; may be repeated.")] = [],  # noqa: B006
    state: Annotated[
        list[str], typer.Option(help="Only finished, stopped, failed or running trials; may be repeated.")
    ] = [],  # noqa: B006
    where: Annotated[
        list[str], typer.Option(help="Only trials that fulfil a condition, as 'optimizer.lr>=0.1'; may be repeated.")
    ] = [],  # noqa: B006
    sort: Annotated[
        list[str], typer.Option(help="Sort by a column, with a minus in front descending; may be repeated.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="Show at most this many trials.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the trials with all columns as CSV; '-' prints them.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a sweep's trials, finished or running: their values, ends and metrics."""
    from analysis import load, selection
    from tune.store import Store

    sweep = load.sweep(Store.at(store).existing(sweep_name).path)
    table = sweep.trials.drop(columns="sweep")
    _require_known("--arm", arm, table["arm"].unique().tolist())
    _require_known("--state", state, ["finished", "stopped", "failed", "running"])
    table = table[table["arm"].isin(arm)] if arm else table
    table = table[table["state"].isin(state)] if state else table
    table = selection.ordered(selection.where(table, where), sort)[:limit]
    if csv is not None:
        _write_csv(table, csv)
    if as_json:
        print(json.dumps(selection.plain(table), default=str))
    elif csv is None:
        print_result(table, lambda rows: _for_terminal(rows, sweep.datasets), as_json=False)
        print_message(f"{len(table)} trial{'' if len(table) == 1 else 's'}")


def _require_known(option: str, given: list[str], known: list[str]) -> None:
    from supersnn.errors import UserError, nearest

    for value in given:
        if value not in known:
            raise UserError(
                f"{option} {value}: expected one of {', '.join(known) or 'none yet'}{nearest(value, known)}"
            )


def _write_csv(table: "pd.DataFrame", path: Path) -> None:
    from io import StringIO

    from supersnn.files import write_atomically

    text = StringIO()
    table.to_csv(text, index=False)
    if str(path) == "-":
        sys.stdout.write(text.getvalue())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
    print_message(f"wrote {path}: {len(table)} trials")


def _for_terminal(table: "pd.DataFrame", datasets: Sequence[str]) -> Any:
    """Return the rows for a terminal: trials by the names that `show` takes, the columns that say something, and the
    sampled values as one text. In a narrow terminal seconds are left out.

    Args:
        table: the trials.
        datasets: of the sweep, in its order.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # without markup: data may contain brackets

    from analysis import selection

    shown = [column for column in SHOWN if column in table.columns and table[column].notna().any()]
    if "feasible" in shown and not table["feasible"].eq(False).any():
        shown.remove("feasible")
    if "seconds" in shown and Console().width < WIDE:
        shown.remove("seconds")
    drawn = Table(box=None, pad_edge=False)
    for name in ("trial", *shown):
        drawn.add_column(Text(name.replace("/", "/\n")), no_wrap=True, overflow="fold")
    drawn.add_column("with", overflow="fold", min_width=16)
    sampled = [str(column) for column in table.columns if "." in str(column)]
    for row in selection.plain(table):
        texts = (_name(row, datasets), *(_cell(key, row[key]) for key in shown), _values(row, sampled))
        drawn.add_row(*map(Text, texts))
    return drawn


def _name(row: dict[str, Any], datasets: Sequence[str]) -> str:
    """Return a trial's name: its search's, and its number in it."""
    from supersnn.records.searches import SearchId, trial_key

    dataset = row["dataset"] if row["dataset"] in datasets[1:] else None
    return trial_key(str(SearchId(row["arm"], dataset, row["replicate"])), row["trial"])


def _cell(key: str, value: Any) -> str:
    from analysis.sentences import number

    return number(value) if key.startswith("ops/") else cell(value)


def _values(row: dict[str, Any], keys: list[str]) -> str:
    return " ".join(f"{key}={cell(row[key])}" for key in keys if row[key] is not None)


def show(
    sweep_name: SweepArgument,
    trial: TrialArgument,
    to: Annotated[Path | None, typer.Option(help="Write the training file here instead of printing it.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print any trial as a training file, which `supersnn train` runs to the same result."""
    from analysis.trial import shown_trial
    from supersnn.files import write_atomically
    from supersnn.plain_yaml import read_yaml
    from tune.outcome.export import parse_trial
    from tune.store import Store

    folder = Store.at(store).existing(sweep_name)
    shown = shown_trial(folder.path, read_yaml(folder.config), *parse_trial(trial))
    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(to, shown.file())
        print_message(f"wrote {to}; `supersnn train {to}` trains it")
    if as_json:
        result: dict[str, Any] = shown.values()
        print(json.dumps(result, default=str))
    elif to is None:
        sys.stdout.write(shown.file())
