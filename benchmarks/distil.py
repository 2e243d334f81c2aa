"""An epoch of a student with the relational loss, compared with one of the same student without a teacher.

The teacher cache is computed first; its cost is shown as a share of a sweep of 30 trials. A third side runs the teacher
online. The images are noise of CIFAR's shape: only time is measured.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import Result, interleaved, main, progress, spread
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import Images, TrainingData, fingerprint
from supersnn.networks.base import ImageShape
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import needed_outputs
from supersnn.teacher_sources import teacher_source_for
from supersnn.teachers import TeacherStore
from supersnn.training import train

VIEWS, SWEEP_VIEWS = 2, 16
"""Views in the benchmark's teacher cache, and in one of the default size."""
TRIALS, EPOCHS = 30, 12
"""Of the sweep whose cost the cache's is compared with."""


def noise(count: int) -> TrainingData:
    """Return `count` images [3, 32, 32] to train on, and a tenth as many to validate."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count + count // 10, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels, index = torch.arange(len(pixels)) % 10, torch.arange(len(pixels))
    shown = Images(pixels[:count], labels[:count], index[:count])
    aside = Images(pixels[count:], labels[count:], index[count:])
    classes = tuple("0123456789")
    split = fingerprint(classes, shown, aside)
    return TrainingData(shown, aside, ImageShape(3, 32), classes, (0.5,) * 3, (0.29,) * 3, split)


def training(epochs: int, weight: float, views: int | str) -> TrainConfig:
    """Return a student's training; with a weight above zero it is distilled from VGG-8."""
    plain = {
        "dataset": {"name": "noise", "augment": {"crop": 4, "flip": True, "views": views}},
        "student": {"architecture": "resnet14", "time_steps": 2},
        "teacher": {"name": "vgg8" if weight else None, "epochs": 1, "lr": 0.01},
        "loss": {"relation": {"weight": weight}},
        "train": {"epochs": epochs, "batch_size": 64},
    }
    return parse(TrainConfig, plain, "distil")


def epochs_of(config: TrainConfig, data: TrainingData, store: Path) -> Callable[[], object]:
    """Return a function that trains one more epoch at each call."""
    reports = train(config, data, teacher_source_for(config, data, store))
    return lambda: next(reports)


def measure(quick: bool) -> Result:
    """Return the seconds of an epoch without a teacher, with its cache, and with the teacher online."""
    images, repeats = (128, 3) if quick else (1280, 7)
    epochs, data = VIEWS + repeats, noise(images)
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        taught = training(epochs, 30.0, VIEWS)
        torch.set_num_threads(taught.train.threads)
        teacher = TeacherStore(store / "teachers").get(taught, data)
        started = time.perf_counter()
        TeacherCache.open(store / "banks", teacher, data, taught, needed_outputs(taught.loss))
        filling = (time.perf_counter() - started) * SWEEP_VIEWS / VIEWS
        progress("the teacher cache is computed")
        sides = {
            "without a teacher": training(epochs, 0.0, VIEWS),
            "with relations from the teacher cache": taught,
            "with relations from the online teacher": training(epochs, 30.0, "off"),
        }
        runs = {side: epochs_of(config, data, store) for side, config in sides.items()}
        measured = {side: spread(times) for side, times in interleaved(runs, repeats, warm_up=VIEWS).items()}
    direct, cached, online = (measured[side].median for side in sides)
    sweep = TRIALS * EPOCHS * cached
    return Result(
        name="distil",
        unit="s an epoch",
        ratios={
            "ratio": cached / direct,
            "online_teacher": online / direct,
            "cache_share": filling / (filling + sweep),
        },
        measured=measured,
        notes={
            "teacher cache": f"{filling:.1f} s for {SWEEP_VIEWS} views of {images} images, "
            f"a sweep of {TRIALS} trials of {EPOCHS} epochs is {sweep:.0f} s of training",
            "threads": torch.get_num_threads(),
        },
    )


if __name__ == "__main__":
    main("distil", measure)
