"""Features against relations at equal sides of their maps: 1, 2, 4 and full. Takes hours.

    python -m benchmarks.sides --folder sides --data fashion-mnist cifar10 --epochs 12 --write benchmarks/RESULTS.md

One teacher of the student's family. Learning rate and weight of every arm are tuned together on validation images,
with seeds that are used for nothing else; then ten seeds an arm are trained and tested once. The control with shuffled
relations is tuned like the others, over the settings of the best relations, and the arm without a teacher, which has no
weight, tries as many rates as they have settings: the best of more settings is better by luck alone. A line for each
training goes to DIR/results.jsonl: the same command continues from there.

The claim under test, fixed before any training of this file: features lead over relations at every equal side, 1, 2, 4
and full, by test accuracy on each data set. `claims` has it side by side, with four further comparisons: relations of
whole maps over those of means, the best relations over shuffled ones and over no teacher, and logits per time step over
no teacher. p-values are adjusted over all eight (Holm), separately for each data set. A claim of a lead holds where
its interval is above zero; that two terms are equal at a side is not claimed, but reported as the interval of their
difference.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare import verdicts
from benchmarks.common import around_section, machine, origin, write_section
from benchmarks.method import PROCESSES, SEEDS, TEACHERS, TUNED_BY, Runs, Study, Training, Values, teach
from tune.versions import versions

SIDES: tuple[int | str, ...] = (1, 2, 4, "full")
RATES = (0.1, 0.3, 0.9)
DIRECT_RATES = (0.1, 0.13, 0.17, 0.23, 0.3, 0.4, 0.52, 0.68, 0.9)
"""The rates to try without a teacher, from the lowest to the highest of `RATES` in equal ratios."""
WEIGHTS = {"gram": (0.1, 0.5, 2.5), "feature": (1.0, 3.0, 10.0), "logit": (0.1, 0.3, 1.0)}
"""The weights to try: of `gram` at the relative scale, of the logit term per step."""
TEACHER = TEACHERS["homogeneous"]


def options(arm: str) -> list[Values]:
    """Return the values to try for an arm: every rate with every weight; as many rates where there is no weight."""
    if arm == "direct":
        return [{"optimizer.lr": rate} for rate in DIRECT_RATES]
    term, _, side = arm.partition("-")
    pool: int | str = int(side) if side.isdigit() else side
    fixed: dict[str, Values] = {
        "gram": {"loss.relation.kind": "gram", "loss.relation.scale": "relative", "loss.relation.pool": pool},
        "feature": {"loss.feature.pool": pool},
        "logit": {"loss.logit.time": "per_step", "loss.logit.temperature": 3.0},
    }
    weight = f"loss.{'relation' if term == 'gram' else term}.weight"
    grid = product(RATES, WEIGHTS[term])
    return [{"teacher.name": TEACHER, **fixed[term], "optimizer.lr": rate, weight: value} for rate, value in grid]


def shuffled(best: str) -> list[Values]:
    """Return the values to try for the control: those of an arm of relations, here the best one, on other samples."""
    return [values | {"loss.relation.shuffle": True} for values in options(best)]


Run = Callable[[Sequence[Training]], list[dict[str, Any]]]
"""Returns the results of trainings, after running those that are missing."""
ARMS = ("direct", *(f"{term}-{side}" for side in SIDES for term in ("gram", "feature")), "logit-per_step")


def claims(best: str) -> list[tuple[str, str, str]]:
    """Return what is under test: an arm, another one, and the sentence; `best` is the side of `gram` by validation."""
    return [
        *((f"feature-{side}", f"gram-{side}", f"features lead at side {side}") for side in SIDES),
        ("gram-full", "gram-1", "relations of whole maps lead over those of means"),
        (best, "shuffled", "what the relations say helps"),
        (best, "direct", "relations lead over no teacher"),
        ("logit-per_step", "direct", "logits per time step lead over no teacher"),
    ]


def tuned(study: Study) -> tuple[dict[str, Values], str]:
    """Return the values of each arm, and the best arm of relations, both by validation."""
    chosen, scores = {}, {}
    for arm in ARMS:
        chosen[arm], scores[arm] = study.choose(arm, options(arm))
    best = max((arm for arm in ARMS if arm.startswith("gram")), key=scores.__getitem__)
    chosen["shuffled"], _ = study.choose("shuffled", shuffled(best))
    return chosen, best


def findings(study: Study, run: Run, seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """Yield the lines of one data set: the arms, then the claims."""
    chosen, best = tuned(study)
    trainings = [Training(study.data, arm, chosen[arm], seed, True) for arm in chosen for seed in seeds]
    rows = pd.DataFrame([{**r, "arm": t.arm} for r, t in zip(run(trainings), trainings, strict=True)])
    yield f"### {study.data}"
    yield ""
    yield "| arm | rate | weight | test accuracy, % |"
    yield "| --- | --- | --- | --- |"
    for arm, values in chosen.items():
        test = 100 * rows[rows["arm"] == arm]["test"]
        weights = ", ".join(f"{value:g}" for key, value in values.items() if key.endswith(".weight"))
        yield f"| {arm} | {values['optimizer.lr']:g} | {weights} | {test.mean():.2f} ± {test.std():.2f} |"
    yield ""
    yield "| claim | difference, points | 95 % interval | p (Holm) |"
    yield "| --- | --- | --- | --- |"
    tested = claims(best)
    found = verdicts(rows, [(a, b) for a, b, _ in tested]).to_dict("records")
    for (a, b, sentence), row in zip(tested, found, strict=True):
        numbers = (
            f"{100 * row['difference']:+.2f} | {100 * row['low']:+.2f} … {100 * row['high']:+.2f} | {row['p']:.3f}"
        )
        yield f"| {sentence}: {a} − {b} | {numbers} |"
    yield ""


def cost(seeds: Sequence[int] = SEEDS) -> Mapping[str, int]:
    """Return the number of trainings on a data set, by what they are for."""
    settings = sum(len(options(arm)) for arm in ARMS) + len(shuffled(ARMS[1]))
    return {"tuning": len(TUNED_BY) * settings, "final": (len(ARMS) + 1) * len(seeds)}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sides")
    parser.add_argument("--folder", type=Path, required=True, help="where results, teachers and caches are kept")
    parser.add_argument("--data", nargs="+", default=["fashion-mnist"], help="names as in dataset.name")
    parser.add_argument("--epochs", type=int, default=12, help="of every training; another folder for each")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on equal sides is replaced")
    parser.add_argument("--plan", action="store_true", help="print the number of trainings and stop")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plan:
        print(json.dumps({"trainings a data set": cost(), "data sets": len(given.data)}))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.write:
        around_section(given.write, "sides")
    seeds, lines = SEEDS[:3] if given.quick else SEEDS, list[str]()
    with (
        multiprocessing.get_context("spawn").Pool(PROCESSES) as pool,
        closing(Runs(given.folder, pool, given.quick)) as runs,
    ):
        if not given.quick:
            runs.sizes["epochs"] = given.epochs
        for data in given.data:
            pool.map(teach, [(data, "homogeneous", given.folder, runs.sizes)])
            lines += findings(Study(data, runs), runs, seeds)
    if given.write:
        command = f"python -m benchmarks.sides --folder {given.folder} --data {' '.join(given.data)}"
        command += " --quick" if given.quick else f" --epochs {given.epochs}"
        about = {"name": "sides", "machine": machine(), "versions": versions(), "command": command}
        write_section(given.write, "sides", [*origin(about), "", *lines])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
