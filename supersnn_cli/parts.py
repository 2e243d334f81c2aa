"""The command `check-part`: whether a part of one's own does what its kind of part must do."""

from pathlib import Path
from typing import Annotated, Any

import typer

from supersnn_cli.options import JsonOption
from supersnn_cli.printing import print_message, print_result, table_of


def check_part(
    part: Annotated[str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="The part, as mypkg.nets:Mine.")],
    kind: Annotated[
        str | None, typer.Option("--as", help="student, teacher, neuron, dataset, surrogate, relation, loss, …")
    ] = None,
    plugin: Annotated[list[str], typer.Option("--plugin", help="The folder of its package, as ./mypkg.")] = [],  # noqa: B006
    argument: Annotated[list[str], typer.Option("--arg", help="An argument of its own: name=value (YAML).")] = [],  # noqa: B006 (typer reads it)
    as_json: JsonOption = False,
) -> None:
    """Check a part of your own (a network, a loss term, a data set …) against its contract. Exit code 1 if it fails."""
    from supersnn import plugins
    from supersnn.errors import UserError, nearest
    from supersnn.testing import CHECKS, Finding
    from supersnn.testing import check_part as check
    from supersnn.testing import kind_of as guess
    from tune.description.overrides import parse_override
    from tune.search.part_checks import SEARCH_CHECKS, check_search_part, search_kind

    package = part.partition(":")[0].partition(".")[0]
    here = Path(package)
    if not plugin and (here / "__init__.py").is_file() and plugins.folder_of(package) is None:
        plugin = [f"./{package}"]
    plugins.activate(plugin)
    arguments: dict[str, Any] = dict(parse_override(text, "--arg") for text in argument)
    known = (*CHECKS, *SEARCH_CHECKS)
    if kind is not None and kind not in known:
        raise UserError(f"--as {kind}: expected one of {', '.join(known)}{nearest(kind, known)}")
    kind = kind or search_kind(part) or guess(part)
    findings: list[Finding] = (
        check_search_part(part, kind, arguments) if kind in SEARCH_CHECKS else check(part, kind, **arguments)
    )
    print_result([vars(finding) for finding in findings], table_of, as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
    print_message(f"{part}: a {kind} as it should be")
