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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare import ALPHA, verdicts
from analysis.statistics import holm
from benchmarks.common import machine, origin, progress, write_section
from benchmarks.evidence_file import EvidenceFile, read_evidence
from supersnn.checkpoint import student_weights
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import digest, parse, with_values
from supersnn.data import TrainingData, training_data
from supersnn.evaluation import evaluate
from supersnn.networks.build import build
from supersnn.relations import RELATIONS
from supersnn.teacher_sources import teacher_source_for
from supersnn.teachers import TeacherStore
from supersnn.test_set import open_test
from supersnn.training import train
from tune.versions import versions

IMAGES, EPOCHS, TEACHER_EPOCHS = 5000, 12, 30
TEACHERS = {"homogeneous": "resnet20", "heterogeneous": "vgg8"}
AUGMENT = {"fashion-mnist": {"crop": 2, "flip": True}}
"""By data set; all others use the usual augmentation of CIFAR."""
TUNED_BY, SEEDS = (900, 901), tuple(range(10))
"""The seeds for tuning, and those of the final trainings."""
RATES = (0.1, 0.2, 0.4, 0.8)
GRIDS = {"relation": (10.0, 30.0, 100.0), "gram": (300.0, 1000.0, 3000.0), "logit": (0.3, 1.0, 3.0),
         "feature": (1.0, 3.0, 10.0)}  # fmt: skip
"""The weights to try, by term; the relation `gram` has another magnitude than the other three."""
PROCESSES = 2

Values = dict[str, Any]
"""Values by dotted keys of a training."""


@dataclass(frozen=True)
class Training:
    """One training, of an arm and a seed; the test images are opened only where it is `final`."""

    data: str
    arm: str
    values: Values
    seed: int
    final: bool

    @property
    def key(self) -> str:
        """Its unique digest; the arm's name is left out, so that arms with equal trainings share them."""
        return digest(self.data, self.values, self.seed, self.final)

    def config(self, images: int = IMAGES, epochs: int = EPOCHS) -> TrainConfig:
        """Return the training's complete configuration."""
        plain = {
            "dataset": {
                "name": self.data,
                "images": images,
                "validation": 0.2,
                "augment": {**AUGMENT.get(self.data, {"crop": 4, "flip": True}), "views": epochs},
            },
            "student": {"architecture": "resnet8", "time_steps": 2, "stem_stride": 2},
            "teacher": {"epochs": TEACHER_EPOCHS},
            "train": {"epochs": epochs, "batch_size": 100},
            "seed": self.seed,
        }
        return with_values(parse(TrainConfig, plain, "method"), self.values)


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


class Runs:
    """The finished trainings, one line each in the folder's `results.jsonl`, and a process pool for more."""

    def __init__(self, folder: Path, pool: Pool, quick: bool) -> None:
        self._folder, self._pool = folder, pool
        self.sizes: dict[str, int] = {"images": 200, "epochs": 1} if quick else {}
        path = folder / "results.jsonl"
        self.done: dict[str, dict[str, Any]] = {result["key"]: result for result in read_evidence(path)}
        self._journal = EvidenceFile(path)

    def __call__(self, trainings: Sequence[Training]) -> list[dict[str, Any]]:
        """Return the result of each training, after running those that are missing."""
        missing = list({t.key: t for t in trainings if t.key not in self.done}.values())
        tasks = [(training, self._folder, self.sizes) for training in missing]
        for number, result in enumerate(self._pool.imap_unordered(train_one, tasks), start=1):
            self._journal.append("training", **result)
            self.done[result["key"]] = result
            progress(f"{number}/{len(missing)} {result['data']} {result['arm']}: {result['val']:.3f}")
        return [self.done[training.key] for training in trainings]

    def close(self) -> None:
        """Close the file of results."""
        self._journal.close()


def train_one(task: tuple[Training, Path, Mapping[str, int]]) -> dict[str, Any]:
    """Train, in a worker; a final training's student is tested. Accuracies are fractions, a failed student's is 0."""
    training, folder, sizes = task
    started = time.process_time()
    config = training.config(**sizes)
    data, accuracies = _images(config.dataset), {}
    *_, last = train(config, data, teacher_source_for(config, data, folder / "store"))
    if training.final:
        network = build(config.student, config.neuron, data.shape, len(data.classes))
        network.load_state_dict(student_weights(last.snapshot()[0]))
        test = open_test(config.dataset, folder / "test-ledger.jsonl", f"method {training.arm} seed {training.seed}")
        accuracies["test"] = evaluate(network, test, data.mean, data.std).accuracy
    return {
        "key": training.key,
        **asdict(training),
        "val": last.metrics.get("val/accuracy", 0.0) if last.ended == "finished" else 0.0,
        **accuracies,
        "spike_rate": last.metrics.get("spikes/rate"),
        "ended": last.ended,
        "seconds": time.process_time() - started,
    }


@cache
def _images(config: DatasetConfig) -> TrainingData:
    return training_data(config)


def teach(task: tuple[str, str, Path, Mapping[str, int]]) -> dict[str, Any]:
    """Train or load a teacher, in a worker; return its accuracy, parameters and seconds."""
    data, pairing, folder, sizes = task
    config = Training(data, pairing, relation("cosine", pairing, 1.0), 0, False).config(**sizes)
    teacher = TeacherStore(folder / "store" / "teachers").get(config, _images(config.dataset))
    facts = {"val": teacher.val_accuracy, "parameters": teacher.parameters, "seconds": teacher.seconds}
    return {"pairing": pairing, "name": TEACHERS[pairing], **facts}


class Study:
    """All trainings of one data set, in the order of their choices; `run` runs those that are missing."""

    def __init__(self, data: str, run: Callable[[Sequence[Training]], list[dict[str, Any]]]) -> None:
        self.data, self._run = data, run

    def choose(self, arm: str, options: Sequence[Values]) -> tuple[Values, float]:
        """Return the values with the best mean validation accuracy, and that accuracy."""
        trainings = [Training(self.data, arm, values, seed, False) for values in options for seed in TUNED_BY]
        scores = [result["val"] for result in self._run(trainings)]
        each = len(TUNED_BY)
        means = [statistics.fmean(scores[i : i + each]) for i in range(0, len(scores), each)]
        best = max(range(len(options)), key=means.__getitem__)
        return options[best], means[best]

    def tuned(self) -> tuple[dict[str, Values], str]:
        """Return the values of each arm, and the kind of relation that is best over both teachers."""
        chosen = {"direct": self.choose("direct", [{"optimizer.lr": rate} for rate in RATES])[0]}
        scores = {}
        for arm, options in candidates().items():
            chosen[arm], scores[arm] = self.choose(arm, [chosen["direct"] | values for values in options])
        kind = max(RELATIONS, key=lambda kind: sum(scores[f"{kind}-{teacher}"] for teacher in TEACHERS))
        for teacher in TEACHERS:
            chosen[f"logit+{kind}-{teacher}"] = chosen[f"logit-{teacher}"] | chosen[f"{kind}-{teacher}"]
            chosen[f"shuffled-{teacher}"] = chosen[f"{kind}-{teacher}"] | {"loss.relation.shuffle": True}
        return chosen, kind

    def final(self) -> "Findings":
        """Run all trainings, and return the findings."""
        chosen, kind = self.tuned()
        claimed = [f"{kind}-homogeneous", f"{kind}-heterogeneous", "shuffled-heterogeneous"]
        order = dict.fromkeys(["direct", *claimed, *chosen])
        trainings = [Training(self.data, arm, chosen[arm], seed, True) for arm in order for seed in SEEDS]
        rows = [{**r, "arm": t.arm} for r, t in zip(self._run(trainings), trainings, strict=True)]
        return Findings(pd.DataFrame(rows), claimed, chosen)


@dataclass(frozen=True)
class Findings:
    """The final trainings of one data set, one per row; the arms that the claim is about; each arm's values."""

    rows: pd.DataFrame
    claimed: Sequence[str]
    chosen: Mapping[str, Values]

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
    own = [result for result in runs.done.values() if result["data"] == study.data]
    hours = {final: sum(r["seconds"] for r in own if r["final"] is final) / 3600 for final in (False, True)}
    rate = findings.chosen["direct"]["optimizer.lr"]
    yield f"### {study.data}"
    yield ""
    for teacher in teachers:
        yield (
            f"- {teacher['pairing']} teacher: {teacher['name']}, {teacher['parameters']:,} parameters, validation "
            f"{teacher['val']:.1%}, {teacher['seconds'] / 60:.1f} min to train"
        )
    yield f"- learning rate of all arms: {rate:g}, the best of {', '.join(map(str, RATES))} without a teacher"
    yield (
        f"- choosing took {sum(not r['final'] for r in own)} trainings, {hours[False]:.1f} h of a core; "
        f"the rest {sum(r['final'] for r in own)} trainings, {hours[True]:.1f} h"
    )
    yield ""
    yield from findings.table()
    yield ""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method")
    parser.add_argument("--folder", type=Path, required=True, help="where results, teachers and caches are kept")
    parser.add_argument("--data", nargs="+", default=["fashion-mnist"], help="names as in dataset.name")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on the method is replaced")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    points: dict[str, float] = {}
    with (
        multiprocessing.get_context("spawn").Pool(PROCESSES) as pool,
        closing(Runs(options.folder, pool, options.quick)) as runs,
    ):
        for data in options.data:
            teachers = pool.map(
                teach, [(data, pairing, options.folder, runs.sizes) for pairing in TEACHERS], chunksize=1
            )
            study = Study(data, runs)
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
