"""A small sweep and its studies, whose trials end as a test says."""

from collections.abc import Iterable, Mapping

import optuna

from supersnn.config_model import parse
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.search.studies import Studies

ARMS = {"direct": {}, "homogeneous": {"teachers": ["resnet14"]}, "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}}


def sweep(
    trials: int = 5, scheduler: str = "none", sampler: str = "random", epochs: int = 9, **search: object
) -> SweepConfig:
    plain = {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": epochs},
        "arms": ARMS,
        "space": {"neuron.threshold": "default", "optimizer.lr": "default", "loss.relation.weight": "default"},
        "search": {"trials": trials, "scheduler": scheduler, "sampler": sampler, **search},
    }
    return parse(SweepConfig, plain, "test")


def studies(config: SweepConfig, storage: optuna.storages.BaseStorage | None = None) -> Studies:
    found = Studies(config, planned(config), storage or optuna.storages.InMemoryStorage())
    found.warm_start()
    return found


def train(live: Studies, key: str, epochs: Iterable[Mapping[str, float]]) -> int:
    """Report the metrics of a trial's epochs until it is to stop, and close it; return how many epochs it has had."""
    spent = 0
    for spent, metrics in enumerate(epochs, start=1):
        if live.report(key, spent, metrics):
            live.finish(key, "stopped")
            return spent
    live.finish(key, "finished")
    return spent


def end(live: Studies, key: str, value: float, how: str = "finished", epoch: int = 9) -> None:
    live.report(key, epoch, {"val/accuracy": value, "ops/synaptic": 1000 * value, "spikes/rate": value})
    live.finish(key, how)
