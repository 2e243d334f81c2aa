"""A winner is trained again with fresh seeds, each tested once, before it is believed."""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supersnn import checkpoint
from supersnn.config import TrainConfig, with_values
from supersnn.evaluation import evaluate
from supersnn.held_out import open_test
from supersnn.networks.build import build
from supersnn.operations import count
from tune.executor import Executor
from tune.search import Job
from tune.trial import Runner, checkpoint_path

RESULT, WEIGHTS = "result.json", "student.safetensors"


@dataclass(frozen=True)
class Verification:
    """One training of one arm's winner with a fresh seed."""

    arm: str
    trial: int
    seed: int
    job: Job
    ledger: str


def plan(
    winners: dict[str, tuple[int, TrainConfig]], seeds: range, sweep: Path, store: Path, token: str
) -> list[Verification]:
    """Return every verification, seed by seed, so that arms stay paired if it ends early.

    The same seeds serve every arm: initialisation and data order are then the same, and differences are paired.
    """
    items = []
    for seed in seeds:
        for arm, (trial, config) in winners.items():
            key = f"{arm}/{trial}/{seed}"
            job = Job(
                key=key,
                config=with_values(config, {"seed": seed}).model_dump(mode="json"),
                seeds=(seed,),
                folder=str(sweep / "verified" / key),
                sweep=str(sweep),
                store=str(store),
                token=token,
            )
            items.append(Verification(arm, trial, seed, job, str(sweep / "test-ledger.jsonl")))
    return items


def run(items: list[Verification], executor: Executor) -> Iterator[tuple[Verification, dict[str, Any] | Exception]]:
    """Yield each verification with its result, at once where it is there already, else as the trainings end."""
    missing = []
    for item in items:
        done = _result(item)
        if done is None:
            missing.append(item)
        else:
            yield item, done
    yield from executor.tasks(verify_one, missing)


def verify_one(item: Verification) -> dict[str, Any]:
    """Train to the end, test once, and leave the weights and the result in the verification's folder.

    Returns:
        ``seed, val, test, test_top5, test_loss, spike_rate, synaptic_ops, mac, energy_nj, seconds, rates, ended``;
        accuracies and rates are fractions, operations are for one image, seconds those of the training.
    """
    if (done := _result(item)) is not None:
        return done
    runner, folder = _runner(), Path(item.job.folder)
    config = TrainConfig.model_validate(item.job.config)
    reports = list(runner.run(item.job))
    trained = checkpoint_path(folder, item.seed)
    tensors, meta = checkpoint.load(trained)
    weights = checkpoint.student_weights(tensors)
    data = runner.data(config.dataset)
    network = build(config.student, config.neuron, data.shape, len(data.classes)).to(runner.device)
    network.load_state_dict(weights)
    test = open_test(config.dataset, Path(item.ledger), f"verify {item.job.key}", runner.device)
    measured = evaluate(network, test, data.mean, data.std)
    operations = count(network, data.shape, measured.density)
    result = {
        "seed": item.seed,
        "val": reports[-1].metrics["val/accuracy"],
        "test": measured.accuracy,
        "test_top5": measured.top5,
        "test_loss": measured.loss,
        "spike_rate": measured.rate,
        "synaptic_ops": operations.synaptic,
        "mac": operations.mac,
        "energy_nj": operations.energy_nj,
        "seconds": sum(epoch["time/epoch_s"] for epoch in meta["history"]),
        "rates": measured.rates,
        "ended": reports[-1].ended,
    }
    checkpoint.save(folder / WEIGHTS, weights, {})
    checkpoint.write_atomically(folder / RESULT, json.dumps(result))
    trained.unlink()
    return result


def _result(item: Verification) -> dict[str, Any] | None:
    path = Path(item.job.folder) / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@functools.cache
def _runner() -> Runner:
    """One runner a worker process, so that the images are loaded once for all its verifications."""
    return Runner()
