"""Evidence of long benchmarks: a file with one JSON object a line, appended as results come, continued after a stop."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supersnn.records.lines import LineWriter, read_lines


class EvidenceFile:
    """Appends results to a file; a torn last line is cut off first."""

    def __init__(self, path: Path) -> None:
        self._lines = LineWriter(path)

    def append(self, event: str, **fields: Any) -> None:
        """Write one result; `event` names its kind."""
        self._lines.append(json.dumps({"event": event, **fields}, separators=(",", ":")))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_evidence(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every result in a file; nothing where there is none."""
    return (json.loads(line) for line, _ in read_lines(path))
