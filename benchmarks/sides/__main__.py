"""Features against relations at equal sides of their maps: train, then pack the evidence and write the section.

    python -m benchmarks.sides --folder data/sides --data fashion-mnist folder:data/cifar10-jpeg
    python -m benchmarks.sides --folder data/sides --data fashion-mnist folder:data/cifar10-jpeg --epochs 36
        --arms direct direct-plain gram-4 feature-4
    python -m benchmarks.sides --keep data/sides --write benchmarks/RESULTS.md

`design.py` has the claim, which was fixed before any training, the arms, and how they are tuned. Each training is one
line in FOLDER/results.jsonl when it has ended: the same command continues from there, and runs in several folders, for
instance on several machines, are packed together. Sizes are in a training's key, so that runs of different `--epochs`
can share a folder.

With the usual sizes (4,000 images for training, 12 epochs) a training takes 32 to 38 s of a core: 209 trainings a data
set and three teachers are 60 to 75 minutes on two cores. The second command above (one line), with a third
as many trainings of three times the epochs, takes about as long.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.common import around_section, machine, write_section
from benchmarks.sides.design import ARMS, SEEDS, Comparison, cost, require_arms
from benchmarks.sides.evidence import EVIDENCE, complete, keep, recorded, section
from benchmarks.sides.tables import findings
from benchmarks.trainings import EPOCHS, IMAGES, PROCESSES, QUICK, Runs
from tune.versions import versions


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sides")
    parser.add_argument("--folder", type=Path, help="train; where results, teachers and caches are kept")
    parser.add_argument("--data", nargs="+", default=["fashion-mnist"], help="names as in dataset.name")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="all by default")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of every training")
    parser.add_argument("--plan", action="store_true", help="print the number of trainings and stop")
    parser.add_argument("--keep", type=Path, nargs="+", metavar="FOLDER", help="add folders of runs to the evidence")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section is computed from the evidence")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    return parser


def train(given: argparse.Namespace) -> list[str]:
    """Run what is missing in the folder, and return the tables of the data sets that were asked for."""
    sizes = QUICK if given.quick else {"images": IMAGES, "epochs": given.epochs}
    arms = [arm for arm in ARMS if arm in given.arms]
    lines: list[str] = []
    with (
        multiprocessing.get_context("spawn").Pool(PROCESSES) as pool,
        closing(Runs(given.folder, pool)) as runs,
    ):
        runs.note("run", sizes=sizes, machine=machine(), versions=versions(), command=command(given))
        for data in given.data:
            comparison = Comparison(data, sizes, arms, runs)
            if taught := comparison.taught():
                runs.note("teachers", data=data, sizes=sizes, teachers=runs.teach(taught))
            lines += findings(comparison, SEEDS[:3] if given.quick else SEEDS)
    return lines


def command(given: argparse.Namespace) -> str:
    """Return the command of a run, without what is usual."""
    text = f"python -m benchmarks.sides --folder {given.folder} --data {' '.join(given.data)}"
    text += f" --epochs {given.epochs}" if given.epochs != EPOCHS else ""
    return text + (f" --arms {' '.join(given.arms)}" if set(given.arms) != set(ARMS) else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parser()
    given = options.parse_args(arguments)
    require_arms(given.arms)
    if given.plan:
        print(json.dumps({"trainings a data set": cost(given.arms), "data sets": len(given.data)}))
        return
    if bool(given.folder) == bool(given.keep or given.write):
        options.error("expected --folder to train, or --keep or --write for what has been trained")
    if given.folder:
        print("\n".join(train(given)))
        return
    if given.write:
        around_section(given.write, "sides")
    if given.keep:
        keep(given.keep)
    if not EVIDENCE.exists():
        raise SystemExit(f"{EVIDENCE}: no results are packed there; see --keep")
    for comparison in recorded():
        if not complete(comparison):
            print(f"{comparison.data}, {comparison.sizes}: not complete, left out", file=sys.stderr)
    text = list(section())
    if not text:
        raise SystemExit(f"{EVIDENCE}: no data set is complete there, so that there is nothing to write")
    print("\n".join(text))
    if given.write:
        write_section(given.write, "sides", text)


if __name__ == "__main__":
    main()
