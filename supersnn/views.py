"""Views of training images: augmented, mixed with other images where that is asked for, with their labels.

A view is a pure function of (`dataset.split_seed`, view, index): it does not depend on a training's seed, so that all
trainings of a sweep share one cache of a teacher's outputs.
"""

from torch import Tensor

from supersnn.augment import augment
from supersnn.config import AugmentConfig, TrainConfig
from supersnn.data import Images
from supersnn.mixing import Mixture, is_mixed, mixture


def augmented(images: Images, rows: Tensor, view: int, config: TrainConfig) -> Tensor:
    """Return a view uint8 [B, C, H, W] of the images in rows int64 [B]; it does not depend on `config.seed`."""
    options, seed = config.dataset.augment, config.dataset.split_seed
    if options.views == 1:
        return images.pixels[rows]
    pixels = augment(images.pixels[rows], images.index[rows], view, seed, options)
    if not is_mixed(options):
        return pixels
    mixed = _mixture(images, rows, view, config)
    partner = mixed.partner.to(images.pixels.device)
    partners = augment(images.pixels[partner], images.index[partner], view, seed, options)
    return mixed.images(pixels, partners)


def targets(images: Images, rows: Tensor, view: int, config: TrainConfig, classes: int) -> Tensor:
    """Return the labels int64 [B] of a view of the images in rows, or distributions float32 [B, K] if it is mixed."""
    labels = images.labels[rows]
    if config.dataset.augment.views == 1 or not is_mixed(config.dataset.augment):
        return labels
    mixed = _mixture(images, rows, view, config)
    others = images.labels[mixed.partner.to(labels.device)]
    mixtures = mixed.targets(labels.cpu(), others.cpu(), classes, images.pixels[0, 0].numel())
    return mixtures.to(labels.device)


def _mixture(images: Images, rows: Tensor, view: int, config: TrainConfig) -> Mixture:
    height, width = images.pixels.shape[-2:]
    size = (len(images), height, width)
    return mixture(config.dataset.augment, rows, images.index[rows], view, config.dataset.split_seed, size)


def view_of(epoch: int, config: AugmentConfig) -> int:
    """Return the view that is trained on in an epoch, counted from 0."""
    return epoch if config.views == "off" else epoch % config.views
