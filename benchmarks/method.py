"""The effect of a teacher on a spiking student: arms with and without one, paired by seed, tested once. Takes hours.

    python -m benchmarks.method --folder DIR [--data fashion-mnist folder:IMAGES] [--write benchmarks/RESULTS.md]

For each data set: first the learning rate of all arms is chosen, for the student without a teacher; then each arm's
weight; then the kind of relation that is best over both teachers, which the claim is about. All choices are made on
validation images, with seeds that are used for nothing else. Then every arm is trained with ten seeds. Each training is
one line in DIR/results.jsonl when it has ended: the same command continues from there, and prints the table. The lines
behind the table in RESULTS.md are kept as evidence/method.jsonl, which can be used as such a file.
"""

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare import ALPHA, verdicts
from analysis.statistics import holm
from benchmarks.common import machine, origin, write_section
from benchmarks.trainings import PROCESSES, QUICK, TEACHERS, TUNED_BY, Result, Run, Runs, Training, Values, best_of
from supersnn.relations import RELATIONS
from tune.versions import versions

SEEDS = tuple(range(10))
"""Of the final trainings."""
RATES = (0.1, 0.2, 0.4, 0.8)
GRIDS = {"relation": (10.0, 30.0, 100.0), "gram": (300.0, 1000.0, 3000.0), "logit": (0.3, 1.0, 3.0),
         "feature": (1.0, 3.0, 10.0)}  # fmt: skip
"""The weights to try, by term; the relation `gram` has another magnitude than the other three."""


def relation(kind: str, teacher: str, weight: float, shuffle: bool = False) -> Values:
    """Return the values of a training with the relational loss."""
    return {
        "teacher.name": TEACHERS[teacher],
        "loss.relation.kind": kind,
        "loss.relation.weight": weight,
        "loss.relation.shuffle": shuffle,
    }


def term(name: str, teacher: str, weight: float) -> Values:
    """Return the values of a training with the term `logit` or `feature`."""
    return {"teacher.name": TEACHERS[teacher], f"loss.{name}.weight": weight}


def candidates() -> dict[str, list[Values]]:
    """Return the values to try for each arm, without the learning rate."""
    found = {}
    for teacher in TEACHERS:
        for kind in RELATIONS:
            grid = GRIDS.get(kind, GRIDS["relation"])
            found[f"{kind}-{teacher}"] = [relation(kind, teacher, weight) for weight in grid]
        for name in ("logit", "feature"):
            found[f"{name}-{teacher}"] = [term(name, teacher, weight) for weight in GRIDS[name]]
    return found


class Study:
    """All trainings of one data set, in the order of their choices; `run` runs those that are missing."""

    def __init__(self, data: str, run: Run, sizes: Mapping[str, int] | None = None) -> None:
        self.data, self._run, self.sizes = data, run, sizes or {}

    def choose(self, arm: str, options: Sequence[Values]) -> tuple[Values, float]:
        """Return the values with the best mean validation accuracy, and that accuracy."""
        tried = [[self.training(arm, values, seed, False) for seed in TUNED_BY] for values in options]
        best, score = best_of(self._run, tried)
        return options[best], score

    def training(self, arm: str, values: Values, seed: int, final: bool) -> Training:
        """Return a training on this data set."""
        return Training(self.data, arm, values, seed, final, self.sizes)

    def tuned(self) -> tuple[dict[str, Values], dict[str, float]]:
        """Return the values of each arm, and the mean validation accuracy of each kind of relation over both teachers.

        The best kind is that of the arms `shuffled` and `logit+KIND`.
        """
        chosen = {"direct": self.choose("direct", [{"optimizer.lr": rate} for rate in RATES])[0]}
        scores = {}
        for arm, options in candidates().items():
            chosen[arm], scores[arm] = self.choose(arm, [chosen["direct"] | values for values in options])
        kinds = {kind: statistics.fmean(scores[f"{kind}-{teacher}"] for teacher in TEACHERS) for kind in RELATIONS}
        kind = max(kinds, key=kinds.__getitem__)
        for teacher in TEACHERS:
            chosen[f"logit+{kind}-{teacher}"] = chosen[f"logit-{teacher}"] | chosen[f"{kind}-{teacher}"]
            chosen[f"shuffled-{teacher}"] = chosen[f"{kind}-{teacher}"] | {"loss.relation.shuffle": True}
        return chosen, kinds

    def final(self) -> "Findings":
        """Run all trainings, and return the findings."""
        chosen, kinds = self.tuned()
        kind = max(kinds, key=kinds.__getitem__)
        claimed = [f"{kind}-homogeneous", f"{kind}-heterogeneous", "shuffled-heterogeneous"]
        order = dict.fromkeys(["direct", *claimed, *chosen])
        trainings = [self.training(arm, chosen[arm], seed, True) for arm in order for seed in SEEDS]
        rows = [{**r, "arm": t.arm} for r, t in zip(self._run(trainings), trainings, strict=True)]
        return Findings(pd.DataFrame(rows), claimed, chosen, kinds)


@dataclass(frozen=True)
class Findings:
    """The final trainings of one data set, one per row; the arms that the claim is about; each arm's values.

    `kinds` has the mean validation accuracy of each kind of relation, by which one was chosen.
    """

    rows: pd.DataFrame
    claimed: Sequence[str]
    chosen: Mapping[str, Values]
    kinds: Mapping[str, float]

    def compared(self) -> pd.DataFrame:
        """Compare each arm with the one without a teacher; Holm-adjusted over the claimed arms and over the rest.

        `p` is the exact sign-flip test's.
        """
        rest = [arm for arm in self.chosen if arm not in ("direct", *self.claimed)]
        parts = [verdicts(self.rows, [(arm, "direct") for arm in arms]) for arms in (self.claimed, rest)]
        for part in parts:
            part["p"] = holm(part["p_flip"])
            part["verdict"] = part["verdict"].mask(
                part["verdict"].isin(["better", "worse"]) & (part["p"] >= ALPHA), "no difference found"
            )
        return pd.concat(parts, ignore_index=True)

    def table(self) -> Iterator[str]:
        """Yield the lines of a Markdown table."""
        yield "| arm | weights | seeds | test accuracy, % | − direct, points | 95 % interval | p | verdict | spikes |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        against = {row["a"]: row for row in self.compared().to_dict("records")}
        for arm, values in self.chosen.items():
            own = self.rows[self.rows["arm"] == arm]
            test, rate = 100 * own["test"], own["spike_rate"].mean()
            weights = ", ".join(f"{value:g}" for key, value in values.items() if key.endswith(".weight"))
            line = f"| {arm} | {weights} | {len(own)} | {test.mean():.2f} ± {test.std():.2f} |"
            if row := against.get(arm):
                line += f" {100 * row['difference']:+.2f} | {100 * row['low']:+.2f} … {100 * row['high']:+.2f} |"
                line += f" {row['p']:.3f} | {row['verdict']} | {rate:.3f} |"
            else:
                line += f" | | | | {rate:.3f} |"
            yield line


def section(study: Study, findings: Findings, teachers: Sequence[Mapping[str, Any]], runs: Runs) -> Iterator[str]:
    """Yield the lines of one data set in RESULTS.md."""
    yield f"### {study.data}"
    yield ""
    for teacher in teachers:
        yield (
            f"- {teacher['pairing']} teacher: {teacher['name']}, {teacher['parameters']:,} parameters, validation "
            f"{teacher['val']:.1%}, {teacher['seconds'] / 60:.1f} min to train"
        )
    yield from facts(study, findings, runs.done)
    yield ""
    yield from findings.table()
    yield ""


def facts(study: Study, findings: Findings, done: Mapping[str, Result]) -> Iterator[str]:
    """Yield the lines on what was chosen for all arms, and on what the trainings took."""
    own = [r for r in done.values() if r["data"] == study.data and r.get("sizes", {}) == study.sizes]
    hours = {final: sum(r["seconds"] for r in own if r["final"] is final) / 3600 for final in (False, True)}
    rate = findings.chosen["direct"]["optimizer.lr"]
    yield f"- learning rate of all arms: {rate:g}, the best of {', '.join(map(str, RATES))} without a teacher"
    yield (
        f"- choosing took {sum(not r['final'] for r in own)} trainings, {hours[False]:.1f} h of a core; "
        f"the rest {sum(r['final'] for r in own)} trainings, {hours[True]:.1f} h"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method")
    parser.add_argument("--folder", type=Path, required=True, help="where results, teachers and caches are kept")
    parser.add_argument("--data", nargs="+", default=["fashion-mnist"], help="names as in dataset.name")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on the method is replaced")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    lines: list[str] = []
    points: dict[str, float] = {}
    with (
        multiprocessing.get_context("spawn").Pool(PROCESSES) as pool,
        closing(Runs(options.folder, pool)) as runs,
    ):
        for data in options.data:
            study = Study(data, runs, QUICK if options.quick else {})
            taught = [study.training(pairing, relation("cosine", pairing, 1.0), 0, False) for pairing in TEACHERS]
            teachers = [{"pairing": one.arm, **facts} for one, facts in zip(taught, runs.teach(taught), strict=True)]
            findings = study.final()
            lines += section(study, findings, teachers, runs)
            points |= {f"{data}: {r['a']}": 100 * r["difference"] for r in findings.compared().to_dict("records")}
    about = {"name": "method", "machine": machine(), "versions": versions(), "command": "make bench-method"}
    if options.write:
        write_section(options.write, "method", [*origin(about), "", *lines])
    if options.json:
        print(json.dumps({**about, "ratios": points, "unit": "points of test accuracy ahead of direct"}, indent=1))
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
