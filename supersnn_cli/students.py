"""Commands for an exported student: `check`, `evaluate` and `predict`."""

from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption, TrustOption
from supersnn_cli.printing import key_value_table, print_message, print_result, table_of


def check(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify an export: checksums, then accuracy measured again. Exit code 1 if damaged or different."""
    import torch

    from supersnn import checking

    comparisons = checking.check(folder, "cuda" if torch.cuda.is_available() else "cpu", trust)
    rows = [{**vars(comparison), "agrees": comparison.agrees} for comparison in comparisons]
    print_result({"folder": str(folder), "figures": rows} if as_json else rows, table_of, as_json)
    if not all(comparison.agrees for comparison in comparisons):
        print_message(f"{folder}: re-evaluation does not match the exported metrics")
        raise typer.Exit(1)


def evaluate(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    data: Annotated[str, typer.Option(help="A data set's name, or folder:PATH; its test images are opened.")],
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an exported student on test images; the opening is recorded in the export's ledger.

    Classes are matched by name: the data set must have the export's class names, channels and image size.
    """
    from supersnn import exported
    from supersnn.checking import evaluate_on

    student = exported.load(folder, trust=trust)
    evaluation = evaluate_on(student, folder, data, trust=trust)
    result = {
        "images": evaluation.images,
        "accuracy": evaluation.accuracy,
        "top5": evaluation.top5,
        "loss": evaluation.loss,
        "per_class": dict(zip(student.preprocessing.classes, evaluation.per_class, strict=True)),
        "spike_rate": evaluation.rate,
        "rates": evaluation.rates,
    }
    print_result(result, key_value_table, as_json)


def predict(
    folder: Annotated[Path, typer.Argument(help="An export folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Classify image files with an exported student."""
    from supersnn import exported

    student = exported.load(folder, trust=trust)
    print_result([{"image": str(path), **student.classify(path)} for path in images], table_of, as_json)
