"""Mixtures of images: what they are, that labels follow, and what they depend on."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import beta, kstest

from supersnn import mixing
from supersnn.config import AugmentConfig, TrainConfig
from supersnn.data import TrainingData
from supersnn.mixing import mixture
from supersnn.randomness import permutation
from supersnn.training import train
from supersnn.views import augmented, targets

Configured = Callable[..., TrainConfig]


def test_mixup_blends_images_and_labels_alike(configured: Configured, bars: TrainingData) -> None:
    config = configured(dataset__augment__mixup=0.8, dataset__augment__crop=0)
    rows = torch.arange(20)
    images, labels = augmented(bars.train, rows, 1, config), targets(bars.train, rows, 1, config, 4)
    mixed = mixture(config.dataset.augment, rows, bars.train.index[rows], 1, 0, (72, 8, 8))
    for row in rows.tolist():
        share, partner = int(mixed.share[row]) / 65536, int(mixed.partner[row])
        own, other = bars.train.pixels[row].double(), bars.train.pixels[partner].double()
        assert (images[row] - (share * own + (1 - share) * other)).abs().max() <= 0.51
        expected = torch.zeros(4)
        expected[bars.train.labels[row]] += share
        expected[bars.train.labels[partner]] += 1 - share
        torch.testing.assert_close(labels[row], expected)


def test_cutmix_counts_the_pixels_of_each(configured: Configured, bars: TrainingData) -> None:
    config = configured(dataset__augment__cutmix=1.0, dataset__augment__crop=0)
    rows = torch.arange(40)
    images, labels = augmented(bars.train, rows, 0, config), targets(bars.train, rows, 0, config, 4)
    mixed = mixture(config.dataset.augment, rows, bars.train.index[rows], 0, 0, (72, 8, 8))
    covered = 0.0
    for row in rows.tolist():
        partner = int(mixed.partner[row])
        top, bottom, left, right = mixed.box[:, row].tolist()
        expected = bars.train.pixels[row].clone()
        expected[:, top:bottom, left:right] = bars.train.pixels[partner][:, top:bottom, left:right]
        assert torch.equal(images[row], expected)
        share = (bottom - top) * (right - left) / 64
        covered += share
        if bars.train.labels[row] != bars.train.labels[partner]:
            assert float(labels[row, bars.train.labels[partner]]) == pytest.approx(share, abs=1e-5)
    assert 0.2 < covered / 40 < 0.6
    torch.testing.assert_close(labels.sum(1), torch.ones(40))


@pytest.mark.parametrize("alpha", [0.8, 1.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    rows = torch.arange(4000)
    mixed = mixture(AugmentConfig(mixup=alpha), rows, rows, 3, 1, (4000, 8, 8))
    assert kstest((mixed.share.double() / 65536).numpy(), beta(alpha, alpha).cdf).pvalue > 0.001
    assert torch.equal(mixed.partner.sort().values, rows)


def test_both_take_turns() -> None:
    rows = torch.arange(2000)
    mixed = mixture(AugmentConfig(mixup=1.0, cutmix=1.0), rows, rows, 3, 1, (2000, 32, 32))
    cut = mixed.share == 65536
    assert 0.45 < cut.float().mean() < 0.55
    assert not mixed.box[:, ~cut].any()


def test_a_mixture_does_not_depend_on_its_batch(configured: Configured, bars: TrainingData) -> None:
    config = configured(dataset__augment__mixup=0.4, dataset__augment__cutmix=1.0)
    rows = torch.tensor([9, 3, 44])
    together = augmented(bars.train, rows, 1, config)
    assert torch.equal(together[1:2], augmented(bars.train, rows[1:2], 1, config))
    assert not torch.equal(together, augmented(bars.train, rows, 0, config))


def test_a_partner_depends_on_the_row_and_the_number_of_images() -> None:
    rows = torch.arange(8)
    options = AugmentConfig(mixup=1.0)
    mixed, elsewhere, fewer = (
        mixture(options, rows, index, 3, 1, (count, 8, 8)) for index, count in ((rows, 40), (rows + 5, 40), (rows, 20))
    )
    assert torch.equal(mixed.partner, elsewhere.partner)
    assert not torch.equal(mixed.share, elsewhere.share)
    assert not torch.equal(mixed.partner, fewer.partner)
    assert torch.equal(mixed.share, fewer.share)


def test_partners_are_found_once_a_view(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the images and the labels of every chunk."""
    orders: list[tuple[int, ...]] = []

    def counted(*counters: int) -> torch.Tensor:
        orders.append(counters)
        return permutation(*counters)

    monkeypatch.setattr(mixing, "permutation", counted)
    mixing._partners.cache_clear()
    config = configured(dataset__augment__mixup=0.4)
    for view in (0, 1):
        for rows in torch.arange(72).split(16):
            augmented(bars.train, rows, view, config)
            targets(bars.train, rows, view, config, 4)
    assert len(orders) == 2


def test_the_copies_of_labels_on_the_host_stay_in_their_process(bars: TrainingData) -> None:
    images = bars.train.to("cpu")
    assert images.on_host is images.on_host
    assert torch.equal(images.on_host.labels, images.labels)
    again = pickle.loads(pickle.dumps(images))
    assert vars(again).keys() == {"pixels", "labels", "index"}
    assert torch.equal(again.on_host.index, images.index)


@pytest.mark.parametrize("kind", ["mean", "per_step"])
def test_a_training_on_mixtures_learns(configured: Configured, bars: TrainingData, kind: Any) -> None:
    config = configured(
        dataset__augment__cutmix=1.0, loss__label__kind=kind, loss__label__smoothing=0.1, train__epochs=1
    )
    (report,) = train(config, bars)
    assert report.metrics["train/loss"] > 0.5
