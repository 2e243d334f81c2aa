"""Selection of trials: conditions on the columns of a table, its order, and the values as plain Python ones."""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from supersnn.errors import UserError, nearest, shortened
from supersnn.plain_yaml import parse_yaml
from supersnn.records.metrics import METRICS

_CONDITION = re.compile(r"\s*(?P<key>[^\s<>=!]+)\s*(?P<sign><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_BY_COLUMN = {metric.column: metric.key for metric in METRICS.values()}


def where(trials: pd.DataFrame, conditions: Iterable[str]) -> pd.DataFrame:
    """Return the rows that fulfil all conditions, as ``optimizer.lr>=0.1`` or ``state=finished``.

    A row without a value fulfils none but ``!=``.

    Raises:
        UserError: a condition is not of that form, names no column, or compares what cannot be compared.
    """
    for text in conditions:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UserError(
                f"--where {shortened(text)}: expected a column, one of <, <=, >, >=, =, != and a value, as "
                "optimizer.lr>=0.1"
            )
        column = column_of(trials, match["key"], f"--where {shortened(text)}")
        trials = trials[_fulfilled(trials[column], match["sign"], match["value"], f"--where {shortened(text)}")]
    return trials


def _fulfilled(values: "pd.Series[Any]", sign: str, text: str, origin: str) -> "pd.Series[bool]":
    try:
        value = parse_yaml(text)
    except ValueError:
        value = text
    numbers = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    if numbers and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError(f"{origin}: expected a number, found {shortened(text)!r}")
    if not numbers and sign not in ("=", "==", "!="):
        raise UserError(f"{origin}: {values.name} is not a number; expected = or !=")
    if not numbers and not pd.api.types.is_bool_dtype(values.dtype):
        mixed = [item if isinstance(item, type(value)) else str(item) for item in values]
        values, value = pd.Series(mixed, index=values.index, dtype=object).where(values.notna()), value
        value = value if any(isinstance(item, type(value)) for item in values) else text
    held = _SIGNS[sign](values, value)
    return held.where(values.notna(), sign == "!=").fillna(sign == "!=").astype(bool)


def ordered(trials: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the rows in the order of some columns, descending where a minus is in front; missing values come last.

    Raises:
        UserError: there is no such column.
    """
    if not by:
        return trials
    columns = [column_of(trials, key.removeprefix("-"), f"--sort {shortened(key)}") for key in by]
    ascending = [not key.startswith("-") for key in by]
    return trials.sort_values(columns, ascending=ascending, na_position="last", kind="stable")


def column_of(trials: pd.DataFrame, name: str, origin: str) -> str:
    """Return a table's column of some name; metrics have two names, as ``spikes/rate`` and ``spike_rate``.

    Raises:
        UserError: there is none.
    """
    known = [str(column) for column in trials.columns]
    for candidate in (name, _BY_COLUMN.get(name)):
        if candidate in known:
            return str(candidate)
    hint = nearest(name, known) or f"; its columns: {', '.join(known)}"
    raise UserError(f"{origin}: no column {shortened(name)!r}{hint}")


def plain(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as mappings of plain values, None for missing ones."""
    rows = trials.astype(object).where(trials.notna(), None).to_dict("records")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
