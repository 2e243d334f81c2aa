"""A journal's events as plain JSON, read without the code under test; metrics without times."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def events(journal: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the events of a journal, of all kinds or of some; none where there is no file.

    A last line without its newline is a torn write and does not count.
    """
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return [event for event in map(json.loads, lines) if not kinds or event["event"] in kinds]


def timeless(metrics: Mapping[str, T]) -> dict[str, T]:
    """Return metrics without those that depend on the machine's speed."""
    return {key: value for key, value in metrics.items() if not key.startswith(("time/", "gpu/"))}
