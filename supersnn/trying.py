"""One step of a training on random images: what a part of one's own does wrong shows before anything is trained."""

import torch

from supersnn.config import TrainConfig
from supersnn.config_model import with_values
from supersnn.data import Images, TrainingData
from supersnn.epoch_report import EpochReport
from supersnn.errors import UserError, described
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.parts import raised_at
from supersnn.teacher_outputs import as_teacher_outputs, compute_outputs, needed_outputs
from supersnn.training import train

IMAGES = 8
FORM = ImageShape(1, 8)
"""The shape of images for checks that need some."""


def try_training(config: TrainConfig, shape: ImageShape, classes: int) -> EpochReport:
    """Train for one step and evaluate, with an untrained teacher; return the report.

    Args:
        config: the training; everything but its length and its batch is as in it.
        shape: of the images.
        classes: their number.

    Raises:
        UserError: something in it fails; one line.
    """
    from supersnn.teachers import recipe

    values = {"train.batch_size": IMAGES, "train.epochs": 1, "train.shards": 1, "train.precision": "fp32"}
    short = with_values(config, values | {"dataset.augment.views": 1})
    data = random_data(shape, classes)
    try:
        with torch.random.fork_rng([]):
            teacher = None
            if config.teacher.name is not None:
                own = recipe(config)
                teacher = build(own.student, own.neuron, shape, classes).eval()
            source = None if teacher is None else _Untrained(teacher, short)
            report = next(iter(train(short, data, source)))
            report.snapshot()
    except UserError:
        raise
    except Exception as error:  # whatever a part of the user's raises
        place = raised_at(error, config.import_paths())
        raise UserError(f"a training step fails: {described(error)}{place}") from error
    return report


class _Untrained:
    """A `TeacherSource` that runs a network."""

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self._network, self._kinds = network, needed_outputs(config.loss)

    def __call__(self, position: torch.Tensor, view: int, images: torch.Tensor) -> TeacherOutputs:
        del position, view
        return as_teacher_outputs(compute_outputs(self._network, images, self._kinds))


def random_data(shape: ImageShape, classes: int) -> TrainingData:
    """Return as many random images for training as for validation."""
    generator = torch.Generator().manual_seed(0)

    def images(first: int) -> Images:
        pixels = torch.randint(
            0, 256, (IMAGES, shape.channels, shape.side, shape.side), generator=generator, dtype=torch.uint8
        )
        index = torch.arange(first, first + IMAGES)
        return Images(pixels, index % classes, index)

    names = tuple(map(str, range(classes)))
    half = (0.5,) * shape.channels
    return TrainingData(images(0), images(IMAGES), shape, names, half, half, "random")
