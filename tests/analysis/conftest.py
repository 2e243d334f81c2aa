"""Synthetic sweeps whose truth is known, written as the store holds them."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

TEACHERS = {"resnet8": ("resnet", 75_000, 0.95), "vgg8": ("vgg", 900_000, 0.96), "wrn16_2": ("wrn", 690_000, 0.965)}
TAUGHT_BY = {"direct": [None], "homogeneous": ["resnet8"], "heterogeneous": ["vgg8", "wrn16_2"]}


def write_sweep(
    folder: Path,
    *,
    gains: Mapping[str, float] | None = None,
    trials: int = 8,
    epochs: int = 5,
    seeds: int = 10,
    noise: float = 0.004,
    done: bool = True,
    dataset: str = "digits",
    student: str = "resnet8",
    layers: int = 3,
    seed: int = 0,
    teachers: Mapping[str, tuple[str, int, float]] = TEACHERS,
    taught_by: Mapping[str, list[str | None]] = TAUGHT_BY,
) -> Path:
    """Write a sweep: `gains` is each arm's true advantage, `noise` the standard deviation over seeds."""
    rng = np.random.default_rng(seed)
    arms = dict.fromkeys(taught_by, 0.0) | {"homogeneous": 0.01, "heterogeneous": 0.01} if gains is None else dict(gains)
    folder.mkdir(parents=True, exist_ok=True)
    clock = 1_750_000_000.0
    lines: list[str] = []

    def tell(event: str, wait: float = 0.0, /, **fields: Any) -> None:
        nonlocal clock
        clock += wait
        lines.append(json.dumps({"event": event, "time": round(clock, 3), **fields}, separators=(",", ":")))

    tell("sweep", driver="d1", code="0.1.0+abc", versions={"torch": "2.14.1"}, resumed=False)
    used = [t for names in (taught_by[a] for a in arms) for t in names if t]
    for name in dict.fromkeys(used):
        kind, parameters, accuracy = teachers[name]
        tell("teacher", 30.0, name=name, digest=f"{zlib.crc32(name.encode()):016x}", family=kind,
             parameters=parameters, val_accuracy=accuracy, epochs=20, seconds=30.0, split="f00d")  # fmt: skip
        tell("bank", 2.0, teacher=name, digest="b" + name, views=16, seconds=2.0, bytes=1_000_000)
    best: dict[str, tuple[float, int]] = {}
    configs: dict[tuple[str, int], dict[str, Any]] = {}
    for number in range(trials):
        for arm, gain in arms.items():
            teacher = taught_by[arm][number % len(taught_by[arm])]
            params: dict[str, Any] = {
                "neuron.threshold": float(rng.uniform(0.3, 2.0)),
                "neuron.decay": float(rng.uniform(0.1, 0.95)),
                "optimizer.lr": float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))),
                "neuron.surrogate": str(rng.choice(["triangle", "atan", "sigmoid"])),
            }
            if teacher:
                params["teacher.name"] = teacher
                params["loss.relation.weight"] = float(np.exp(rng.uniform(0, np.log(1000))))
            config = {"dataset.name": dataset, "student.architecture": student, "student.time_steps": 2,
                      "teacher.name": teacher, "seed": 0, **params}  # fmt: skip
            configs[arm, number] = config
            ease = 0.04 * (params["neuron.threshold"] - 0.9) ** 2 + 0.01 * (np.log(params["optimizer.lr"]) + 2.5) ** 2
            final = 0.9 + gain - ease + rng.normal(0, noise)
            tell("start", 0.1, arm=arm, trial=number, config=config, params=params, resumed_at=0)
            failing, stopping = number % 16 == 13, number % 4 == 3
            told = 1 if failing else max(1, epochs // 3) if stopping else epochs
            value = float("nan")
            for epoch in range(1, told + 1):
                value = float(np.clip(final - 0.5 * np.exp(-3 * epoch / epochs) + 0.5 * np.exp(-3), 0.02, 0.999))
                rate = float(np.clip(0.25 / params["neuron.threshold"] + rng.normal(0, 0.01), 0.005, 0.9))
                metrics = {"train/loss": 2.3 * np.exp(-3 * epoch / epochs), "loss/label": 1.5 * np.exp(-3 * epoch / epochs),
                           "val/accuracy": value, "val/loss": 2.2 * np.exp(-2 * epoch / epochs), "spikes/rate": rate,
                           "ops/synaptic": 4e7 * rate, "ops/mac": 1.2e6, "energy/nj": 36_000 * rate + 5_520,
                           "time/epoch_s": 1.5 if teacher else 1.2}  # fmt: skip
                if teacher:
                    metrics["loss/relation"] = 0.1 * np.exp(-epoch / epochs)
                tell("epoch", metrics["time/epoch_s"], arm=arm, trial=number, epoch=epoch, metrics=metrics)
            end = "failed:silent" if failing else "stopped" if stopping else "finished"
            tell("end", 0.0, arm=arm, trial=number, end=end, epochs=told, value=value)
            if end == "finished" and value > best.get(arm, (-1.0, 0))[0]:
                best[arm] = (value, number)
    stored: dict[str, Any] = {"arms": {}}
    ledger = []
    for arm, (value, number) in best.items() if done else ():
        tell("winner", arm=arm, trial=number, value=value)
        found = []
        for fresh in range(1000, 1000 + seeds):
            test = 0.9 + arms[arm] + rng.normal(0, noise)
            row = {"seed": fresh, "val": test + rng.normal(0, 0.003), "test": test, "spike_rate": 0.2,
                   "synaptic_ops": 8e6, "energy_nj": 12_720.0, "seconds": 1.5 * epochs,
                   "rates": {f"layer{k}": float(0.26 - 0.06 * k + rng.normal(0, 0.005)) for k in range(layers)}}  # fmt: skip
            found.append(row)
            ledger.append({"time": clock, "dataset": dataset, "purpose": f"verify {arm}/{number}/{fresh}", "count": 360})
            tell("verified", row["seconds"], arm=arm, trial=number, seed=fresh, seconds=row["seconds"],
                 config=configs[arm, number] | {"seed": fresh},
                 metrics={"val/accuracy": row["val"], "test/accuracy": test, "spikes/rate": 0.2,
                          "ops/synaptic": 8e6, "energy/nj": 12_720.0})  # fmt: skip
        stored["arms"][arm] = {"trial": number, "search_value": value, "results": found}
    if done:
        tell("close", driver="d1", end="done")
        (folder / "verified.json").write_text(json.dumps(stored))
        (folder / "test-ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ledger))
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    config = {
        "name": folder.name, "seed": 0, "dataset": {"name": dataset}, "student": {"architecture": student},
        "arms": {arm: {"teachers": taught_by[arm]} if taught_by[arm][0] else {} for arm in arms},
        "space": {"neuron.threshold": {"uniform": [0.3, 2.0]}, "neuron.decay": {"uniform": [0.1, 0.95]},
                  "optimizer.lr": {"log": [0.01, 0.3]}, "loss.relation.weight": {"log": [1, 1000]}},
        "search": {"trials": trials}, "verify": {"seeds": seeds}, "resources": {"cpus": 1, "gpus": 0},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a sweep under a temporary store and returns its folder."""

    def write(name: str = "digits", **options: Any) -> Path:
        return write_sweep(tmp_path / "store" / "sweeps" / name, **options)

    return write
