"""Commands that train without a search: `train` one student, `teach` a sweep's teachers."""

from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption, SetOption, StoreOption, SweepFiles, TrustOption
from supersnn_cli.printing import epoch_line, key_value_table, print_message, print_result, table_of


def train(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A training's YAML file, or the config.yaml of an export.")
    ],
    set_: SetOption = [],  # noqa: B006 (typer reads it)
    store: StoreOption = None,
    to: Annotated[Path | None, typer.Option(help="Write the trained student as an export folder.")] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one student; a missing teacher or teacher cache is created first, as in a sweep.

    Exit code 1 if the training failed: nothing is exported then.
    """
    import torch

    from supersnn import plugins
    from supersnn.config import load
    from supersnn.config_model import with_values
    from supersnn.data import training_data, with_absolute_path
    from supersnn.export_code import require_trust
    from supersnn.teacher_sources import teacher_source_for
    from supersnn.training import train as train_student
    from tune.description.inspection import inspect_training
    from tune.description.overrides import parse_override
    from tune.store import Store

    values = dict(parse_override(text) for text in set_)
    config = with_absolute_path(with_values(load(file), values, str(file)))
    if config.plugins:
        config = config.model_copy(update={"plugins": plugins.absolute(config.plugins, file)})
        require_trust(file, config, trust)
        plugins.activate(config.plugins)
    if to is not None:
        from supersnn import exported

        exported.ensure_replaceable(to)
    inspect_training(config, str(file))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = training_data(config.dataset, device)
    folder = Store.at(store).path
    teacher_source = teacher_source_for(config, data, folder, device)
    seconds, report = 0.0, None
    for report in train_student(config, data, teacher_source, device=device):
        seconds += report.metrics["time/epoch_s"]
        print_message(epoch_line(report, config.train.epochs))
    assert report is not None
    if to is not None and report.failure is None:
        from tune.outcome.export import warnings_of
        from tune.outcome.single import export_training

        for line in warnings_of(export_training(to, config, report, data, teacher_source, folder / "teachers")):
            print_message(f"warning: {line}")
    result = {
        "val_accuracy": report.metrics.get("val/accuracy"),
        "epochs": report.epoch,
        "spike_rate": report.metrics.get("spikes/rate"),
        "synaptic_ops": report.metrics.get("ops/synaptic"),
        "energy_nj": report.metrics.get("energy/nj"),
        "seconds": seconds,
        "ended": report.ended,
    }
    print_result(result, key_value_table, as_json)
    if report.failure is not None:
        print_message(f"the training failed: {report.failure}{'' if to is None else '; nothing was exported'}")
        raise typer.Exit(1)


def teach(
    config: SweepFiles,
    set_: SetOption = [],  # noqa: B006 (typer reads it)
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a sweep's teachers and compute their caches, without searching."""
    from tune.description import sweep as sweeps
    from tune.description.arms import resolve
    from tune.description.searches import planned
    from tune.execution.local import LocalExecutor
    from tune.execution.prepare import prepare
    from tune.store import Store

    described = sweeps.load(config, tuple(set_))
    searches = planned(described, resolve(described, sweeps.origin_of(config, set_)))
    ready = prepare(searches, Store.at(store).storage, LocalExecutor())
    rows = [event.model_dump(exclude={"event", "time"}) for prepared in ready for event in prepared.events()]
    print_result(rows, table_of, as_json)
