"""An exported student: checked, measured, used."""

from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption
from supersnn_cli.printing import rows, say, show, two_columns


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


def evaluate(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    data: Annotated[str, typer.Option(help="A data set by name, or folder:PATH; its test part is opened.")],
    as_json: JsonOption = False,
) -> None:
    """Measure an exported student on a test set; the opening is written down beside the export."""
    from supersnn import exported
    from supersnn.evaluation import evaluate as measure
    from supersnn.test_set import open_test

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


def predict(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    as_json: JsonOption = False,
) -> None:
    """Classify image files with an exported student."""
    from supersnn import exported

    student = exported.load(folder)
    show([{"image": str(path), **student.classify(path)} for path in images], rows, as_json)
