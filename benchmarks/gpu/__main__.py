"""Run the benchmark: `python -m benchmarks.gpu [--json] [--write FILE] [--part NAME] [--device cpu --small]`.

A file of `--json` is written before each part: where one hangs, or the process is killed, those before are in it.
"""

import argparse
import faulthandler
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.setting import Setting, release
from supersnn.files import write_atomically
from supersnn.gpus import ask_for_queues, gpu_facts

MINUTES = 8.0
GRACE = 60.0
"""Seconds that a part which has begun in time may take longer."""


def measure(
    setting: Setting,
    names: list[str],
    minutes: float = MINUTES,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Return what the parts measured; one that fails, or that time is too short for, does not keep the others.

    Args:
        setting: device and sizes.
        names: of the parts.
        minutes: after which no further part begins.
        keep: is given the result so far before each part.
    """
    started = time.perf_counter()
    found: dict[str, dict[str, Any]] = {name: {"error": "not run: an earlier part did not end"} for name in names}

    def document() -> dict[str, Any]:
        return {
            "name": "gpu",
            "small": setting.small,
            "device": str(setting.device),
            **gpu_facts(setting.device),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "seconds": round(time.perf_counter() - started, 1),
            "parts": found,
        }

    for name in names:
        if time.perf_counter() - started > 60 * minutes:
            found[name] = {"error": "not run: the time is over"}
            continue
        print(f"{time.perf_counter() - started:6.1f} s {name}", file=sys.stderr, flush=True)
        found[name] = {"error": "begun, and did not end"}
        if keep is not None:
            keep(document())
        began = time.perf_counter()
        try:
            found[name] = PARTS[name](setting).document()
        except Exception:
            traceback.print_exc()
            found[name] = {"error": traceback.format_exc()[-2000:]}
        found[name]["seconds"] = round(time.perf_counter() - began, 1)
        release(setting)
    return document()


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result as Markdown: the card, a table of targets, a table of rows, notes."""
    small = " (sizes too small to say anything about speed)" if document["small"] else ""
    about = (f"{key} {document[key]}" for key in ("driver", "cuda", "cudnn") if key in document)
    versions = (f"{name} {version}" for name, version in document["versions"].items())
    yield f"    python -m benchmarks.gpu{small}"
    yield ""
    yield f"{document.get('gpu', document['device'])}, {', '.join([*about, *versions])}, {document['seconds']:.0f} s"
    yield ""
    yield "| target | measured | wanted | reached |"
    yield "| --- | --- | --- | --- |"
    for part in document["parts"].values():
        for name, row in part.get("targets", {}).items():
            yield f"| {name} | {row['value']:.3g} | {row['target']} | {'yes' if row['reached'] else 'no'} |"
    yield ""
    yield "| measured | |"
    yield "| --- | --- |"
    for part in document["parts"].values():
        yield from (f"| {name} | {value:.4g} |" for name, value in part.get("rows", {}).items())
    yield ""
    for name, part in document["parts"].items():
        if "error" in part:
            yield f"- {name} failed: {part['error'].strip().splitlines()[-1]}"
        yield from (f"- {note}: {text}" for note, text in part.get("notes", {}).items())


def main() -> None:
    """Run from the command line; the exit code is 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes that only show that everything runs")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="measure these parts alone")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="after which no further part begins; one more ends it"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for each way to share the card")
    parser.add_argument("--json", nargs="?", const="-", help="print one JSON document, or write it to this file")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on this benchmark is replaced")
    options = parser.parse_args()
    ask_for_queues()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU here; --device cpu --small shows that everything runs")
    setting = Setting(torch.device(options.device), options.small, 0.2 if options.small else options.seconds)
    file = Path(options.json) if options.json and options.json != "-" else None

    def keep(document: dict[str, Any]) -> None:
        if file is not None:
            write_atomically(file, json.dumps(document, indent=1) + "\n")

    faulthandler.dump_traceback_later(60 * options.minutes + GRACE, exit=True)  # a part that hangs, or takes too long
    document = measure(setting, options.part or list(PARTS), options.minutes, keep)
    faulthandler.cancel_dump_traceback_later()
    keep(document)
    print(json.dumps(document, indent=1) if options.json == "-" else "\n".join(lines(document)))
    if options.write:
        from benchmarks.common import write_section

        write_section(options.write, "gpu", lines(document))
    sys.exit(1 if any("error" in part for part in document["parts"].values()) else 0)


if __name__ == "__main__":
    main()
