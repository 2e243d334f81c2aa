"""Synthetic sweeps with known truth, written in the store's format."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from supersnn.records.metrics import by_key
from supersnn.records.searches import SearchId

TEACHERS = {"resnet8": ("resnet", 75_000, 0.95), "vgg8": ("vgg", 900_000, 0.96), "wrn16_2": ("wrn", 690_000, 0.965)}
"""A teacher's family, parameters and validation accuracy."""
ARMS: dict[str, Sequence[str | None]] = {
    "direct": [None],
    "homogeneous": ["resnet8"],
    "heterogeneous": ["vgg8", "wrn16_2"],
}
SPACE: dict[str, dict[str, Any]] = {
    "neuron.threshold": {"uniform": [0.3, 2.0], "log": None},
    "neuron.decay": {"uniform": [0.1, 0.95], "log": None},
    "optimizer.lr": {"uniform": None, "log": [0.01, 0.3]},
    "loss.relation.weight": {"uniform": None, "log": [1.0, 1000.0]},
    "neuron.surrogate": {"categorical": ["triangle", "atan", "sigmoid"]},
}
START = 1_750_000_000.0


@dataclass
class Synthetic:
    """A sweep to write. `gains` are the arms' true advantages, `noise` the standard deviation over seeds.

    With `datasets` (labels) and `replicates` every arm is searched on each of them, that often; `search_noise` is the
    standard deviation between the winners of an arm. The sweep begins at `start`, in Unix seconds.

    Of every sixteen trials of an arm one fails as silent and four are stopped early; the score falls off around a
    threshold of 0.9 and a learning rate of 0.08 and depends on no other parameter. The firing rate is about 0.25 by the
    threshold, so that a bound of 0.2 makes the best values infeasible. Journals of schema 1 leave `feasible` out.
    """

    folder: Path
    gains: Mapping[str, float] = field(default_factory=lambda: {"homogeneous": 0.01, "heterogeneous": 0.01})
    arms: Mapping[str, Sequence[str | None]] = field(default_factory=lambda: ARMS)
    teachers: Mapping[str, tuple[str, int, float]] = field(default_factory=lambda: TEACHERS)
    teacher_gains: Mapping[str, float] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    schema: int = 1
    trials: int = 8
    epochs: int = 5
    seeds: int = 10
    noise: float = 0.004
    done: bool = True
    dataset: str = "digits"
    student: str = "resnet8"
    seed: int = 0
    datasets: Sequence[str] = ()
    replicates: int = 1
    search_noise: float = 0.0
    anytime: bool = False
    start: float = START

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.clock = self.start
        self.lines: list[str] = []
        self.configs: dict[tuple[str, int], dict[str, Any]] = {}
        self.best: dict[str, tuple[float, int]] = {}
        self.where: dict[str, Any] = {}

    def write(self) -> Path:
        """Write the folder, and return it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        labels = {"datasets": {label: f"d-{label}" for label in self.datasets}} if self.datasets else {}
        self._event("sweep", driver="d1", code="0.1.0+abc", versions={"torch": "2.14.1"}, resumed=False,
                    schema=self.schema, **labels)  # fmt: skip
        self.ledger: list[dict[str, Any]] = []
        self.stored: dict[str, Any] = {}
        for label in self.datasets or (None,):
            self.dataset = label or self.dataset
            self.where = {"label": label} if label else {}
            self._event("data", dataset=self.dataset, split="f00d", train=1222, validation=215, classes=10)
            self.where = {"dataset": label} if label else {}
            self._prepare()
            for replicate in range(self.replicates):
                self.where = {name: value for name, value in (("dataset", label), ("replicate", replicate)) if value}
                self.best.clear()
                for number in range(self.trials):
                    for arm in self.arms:
                        self._trial(arm, number)
                if self.done:
                    self._verify()
        self.where = {}
        if self.done:
            (self.folder / "verified.json").write_text(json.dumps({"arms": self.stored}))
            ledger = "".join(json.dumps(line) + "\n" for line in self.ledger)
            (self.folder / "test-ledger.jsonl").write_text(ledger)
            self._event("close", driver="d1", end="done")
        (self.folder / "journal.jsonl").write_text("\n".join(self.lines) + "\n")
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self._config(), sort_keys=False))
        return self.folder

    def _event(self, event: str, wait: float = 0.0, /, **fields: Any) -> None:
        self.clock += wait
        line = {"event": event, "time": round(self.clock, 3), **fields, **self.where}
        self.lines.append(json.dumps(line, separators=(",", ":")))

    def _prepare(self) -> None:
        for name in dict.fromkeys(name for names in self.arms.values() for name in names if name):
            family, parameters, accuracy = self.teachers[name]
            label = self.where.get("dataset", "")
            facts = {"name": name, "digest": f"t-{name}{label}", "family": family, "parameters": parameters}
            self._event("teacher", 30.0, **facts, val_accuracy=accuracy, epochs=20, seconds=30.0, split="f00d")
            self._event("bank", 2.0, teacher=name, digest=f"b-{name}{label}", views=16, seconds=2.0, bytes=1_000_000)

    def _params(self, teacher: str | None, several: bool) -> dict[str, Any]:
        params: dict[str, Any] = {
            "neuron.threshold": float(self.rng.uniform(0.3, 2.0)),
            "neuron.decay": float(self.rng.uniform(0.1, 0.95)),
            "optimizer.lr": float(np.exp(self.rng.uniform(np.log(0.01), np.log(0.3)))),
            "neuron.surrogate": str(self.rng.choice(SPACE["neuron.surrogate"]["categorical"])),
        }
        weight = {"loss.relation.weight": float(np.exp(self.rng.uniform(0, np.log(1000))))}
        return params | (weight if teacher else {}) | ({"teacher.name": teacher} if several else {})

    def _trial(self, arm: str, number: int) -> None:
        names = self.arms[arm]
        teacher = names[number % len(names)]
        params = self._params(teacher, len(names) > 1)
        fixed = {"dataset.name": self.dataset, "student.architecture": self.student, "seed": 0, "teacher.name": teacher}
        self.configs[arm, number] = fixed | params
        self._event("start", 0.1, arm=arm, trial=number, config=fixed | params, params=params, resumed_at=0)
        ease = 0.04 * (params["neuron.threshold"] - 0.9) ** 2 + 0.01 * (np.log(params["optimizer.lr"]) + 2.5) ** 2
        gain = self.gains.get(arm, 0.0) + self.teacher_gains.get(teacher or "", 0.0)
        final = 0.9 + gain - ease + self.rng.normal(0, self.noise)
        end = "failed:silent" if number % 16 == 13 else "stopped" if number % 4 == 3 else "finished"
        epochs = {"finished": self.epochs, "stopped": max(1, self.epochs // 3)}.get(end, 1)
        value, metrics = 0.0, dict[str, float]()
        for epoch in range(1, epochs + 1):
            value = float(np.clip(final - 0.5 * np.exp(-3 * epoch / self.epochs) + 0.5 * np.exp(-3), 0.02, 0.999))
            metrics = self._metrics(epoch, value, params["neuron.threshold"], teacher)
            self._event("epoch", metrics["time/epoch_s"], arm=arm, trial=number, epoch=epoch, metrics=metrics)
        feasible = all(metrics[key] <= bound for key, bound in self.constraints.items())
        stated = {"feasible": feasible} if self.schema > 1 else {}
        self._event("end", arm=arm, trial=number, end=end, epochs=epochs, value=value, **stated)
        if end == "finished" and feasible and value > self.best.get(arm, (-1.0, 0))[0]:
            self.best[arm] = (value, number)

    def _metrics(self, epoch: int, value: float, threshold: float, teacher: str | None) -> dict[str, float]:
        fade = float(np.exp(-3 * epoch / self.epochs))
        rate = float(np.clip(0.25 / threshold + self.rng.normal(0, 0.01), 0.005, 0.9))
        metrics = {"train/loss": 2.3 * fade, "loss/label": 1.5 * fade, "val/accuracy": value, "val/loss": 2.2 * fade,
                   "spikes/rate": rate, "ops/synaptic": 4e7 * rate, "ops/mac": 1.2e6, "energy/nj": 36_000 * rate + 5520,
                   "time/epoch_s": 1.5 if teacher else 1.2}  # fmt: skip
        return metrics | ({"loss/relation": 0.1 * fade} if teacher else {})

    def _verify(self) -> None:
        for arm, (value, number) in self.best.items():
            self._event("winner", arm=arm, trial=number, value=value)
            teacher = self.configs[arm, number]["teacher.name"] or ""
            results = []
            luck = self.rng.normal(0, 1) * self.search_noise if self.search_noise else 0.0
            search = str(SearchId(arm, self._label(), self.where.get("replicate", 0)))
            for seed in range(1000, 1000 + self.seeds):
                test = (
                    0.9
                    + self.gains.get(arm, 0.0)
                    + self.teacher_gains.get(teacher, 0.0)
                    + self.rng.normal(0, self.noise)
                    + luck
                )
                rates = {f"layer{k}": float(0.26 - 0.06 * k + self.rng.normal(0, 0.005)) for k in range(3)}
                result: dict[str, float] = {
                    "seed": seed, "val": test + self.rng.normal(0, 0.003), "test": test, "spike_rate": 0.2,
                    "synaptic_ops": 8e6, "energy_nj": 12_720.0, "seconds": 1.5 * self.epochs,
                }  # fmt: skip
                results.append(result | {"rates": rates, "ended": "finished"})
                purpose = f"verify {search}/{number}/{seed}"
                self.ledger.append({"time": self.clock, "dataset": self.dataset, "purpose": purpose, "count": 360,
                               "weights": hashlib.sha256(purpose.encode()).hexdigest()})  # fmt: skip
                metrics = by_key(result)
                config = self.configs[arm, number] | {"seed": seed}
                run = {"arm": arm, "trial": number, "seed": seed, "config": config, "rates": rates}
                if self.anytime:
                    run["anytime"] = [
                        {"rule": "steps", "at": at, "steps": at, "accuracy": test - 0.1 * (2 - at),
                         "synaptic_ops": 4e6 * at, "energy_nj": 6_360.0 * at}
                        for at in (1, 2)
                    ]  # fmt: skip
                self._event("verified", result["seconds"], **run, metrics=metrics, seconds=result["seconds"])
            self.stored[search] = {"trial": number, "search_value": value, "results": results}

    def _label(self) -> str | None:
        """Return the label of a data set in a search's name: None for the first one."""
        label = self.where.get("dataset")
        return None if not self.datasets or label == self.datasets[0] else label

    def _config(self) -> dict[str, Any]:
        arms = {arm: {"teachers": [name for name in names if name]} for arm, names in self.arms.items()}
        several = {label: {"name": label} for label in self.datasets}
        more: dict[str, Any] = {"datasets": several} if several else {}
        more |= {"replicates": self.replicates} if self.replicates > 1 else {}
        return {"name": self.folder.name, "seed": self.seed, "dataset": {"name": self.dataset}, **more,
                "student": {"architecture": self.student}, "arms": arms, "space": SPACE,
                "search": {"trials": self.trials, "constraints": dict(self.constraints)},
                "verify": {"seeds": self.seeds}, "resources": {"cpus": 1.0, "gpus": 0.0}}  # fmt: skip


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a sweep under a temporary store, and returns its folder."""

    def write(name: str = "digits", **options: Any) -> Path:
        return Synthetic(tmp_path / "store" / "sweeps" / name, **options).write()

    return write
