"""A sweep whose trials report at once, without training: for benchmarks of what surrounds the training."""

import math
import random
from collections.abc import Iterator

from supersnn.config_model import parse
from tune.description.sweep import SweepConfig
from tune.search.messages import Job, Report


def sweep(trials: int) -> SweepConfig:
    """Return a sweep of one arm of so many trials, with what a usual one searches."""
    plain = {
        "name": "scale",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": 12},
        "arms": {"heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}},
        "space": {
            "neuron.threshold": "default",
            "neuron.decay": "default",
            "optimizer.lr": "default",
            "loss.relation.weight": "default",
        },
        "search": {"trials": trials, "sampler": "tpe", "scheduler": "asha"},
    }
    return parse(SweepConfig, plain, "scale")


def instant(job: Job) -> Iterator[Report]:
    """Yield what a trial would report, without training: it learns the better, the closer its rate is to 0.05."""
    rate, epochs = job.config["optimizer"]["lr"], job.config["train"]["epochs"]
    noise = random.Random(job.key)
    final = 0.9 - 0.2 * abs(math.log10(rate / 0.05))
    for epoch in range(1, epochs + 1):
        accuracy = final * (1 - math.exp(-epoch / 3)) + noise.gauss(0, 0.01)
        metrics = dict.fromkeys(METRICS, 0.5) | {"val/accuracy": accuracy}
        yield Report(epoch, metrics, "finished" if epoch == epochs else None)


METRICS = (
    "train/loss",
    "loss/label",
    "loss/relation",
    "loss/relation_weighted",
    "val/loss",
    "spikes/rate",
    "ops/synaptic",
    "ops/mac",
    "energy/nj",
    "time/epoch_s",
)
"""What a training reports of an epoch besides its accuracy."""
