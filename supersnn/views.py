"""Views of training images: augmented, mixed with other images where that is asked for, with their labels.

A view is a pure function of (`dataset.split_seed`, view, index): it does not depend on a training's seed, so that all
trainings of a sweep share one cache of a teacher's outputs.
"""

from torch import Tensor

from supersnn.augment import augment
from supersnn.config import AugmentConfig, TrainConfig
from supersnn.data import Images
from supersnn.mixing import Mixture, is_mixed, mixture
from supersnn.streams import to_device


def augmented(images: Images, rows: Tensor, view: int, config: TrainConfig) -> Tensor:
    """Return a view uint8 [B, C, H, W] of some images, on their device; it does not depend on `config.seed`.

    Args:
        images: the training images.
        rows: of the images, int64 [B], on the host: how images are mixed is decided there, without the device.
        view: number of the view.
        config: `dataset.augment` and `dataset.split_seed` count.
    """
    options, seed = config.dataset.augment, config.dataset.split_seed

    def seen(rows: Tensor) -> Tensor:
        there = to_device(rows, images.pixels.device)
        return augment(images.pixels[there], images.index[there], view, seed, options)

    if options.views == 1:
        return images.pixels[to_device(rows, images.pixels.device)]
    if not is_mixed(options):
        return seen(rows)
    mixed = _mixture(images, rows, view, config)
    return mixed.images(seen(rows), seen(mixed.partner))


def targets(images: Images, rows: Tensor, view: int, config: TrainConfig, classes: int) -> Tensor:
    """Return the labels int64 [B] of a view of the images in rows, or distributions float32 [B, K] if it is mixed.

    The rows are on the host, as in `augmented`; the labels are on the images' device.
    """
    device = images.labels.device
    if config.dataset.augment.views == 1 or not is_mixed(config.dataset.augment):
        return images.labels[to_device(rows, device)]
    mixed, labels = _mixture(images, rows, view, config), images.on_host.labels
    pixels = images.pixels[0, 0].numel()
    return to_device(mixed.targets(labels[rows], labels[mixed.partner], classes, pixels), device)


def _mixture(images: Images, rows: Tensor, view: int, config: TrainConfig) -> Mixture:
    height, width = images.pixels.shape[-2:]
    size, index = (len(images), height, width), images.on_host.index[rows]
    return mixture(config.dataset.augment, rows, index, view, config.dataset.split_seed, size)


def view_of(epoch: int, config: AugmentConfig) -> int:
    """Return the view that is trained on in an epoch, counted from 0."""
    return epoch if config.views == "off" else epoch % config.views
