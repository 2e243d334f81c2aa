"""The stratified cut."""

import pytest
import torch

from supersnn.sources.split import stratified

LABELS = torch.tensor([0] * 50 + [1] * 31 + [2] * 7 + [3] * 1)[
    torch.randperm(89, generator=torch.Generator().manual_seed(1))
]


@pytest.mark.parametrize("count", [0, 1, 9, 40, 88, 89])
def test_each_row_is_on_one_side_and_each_class_keeps_its_share(count: int) -> None:
    stays, aside = stratified(LABELS, count, 3)
    assert len(aside) == count
    assert torch.equal(torch.cat([stays, aside]).sort().values, torch.arange(89))
    assert torch.equal(stays, stays.sort().values)
    assert torch.equal(aside, aside.sort().values)
    share = torch.bincount(LABELS) * count / 89
    assert ((torch.bincount(LABELS[aside], minlength=4) - share).abs() < 1).all()


def test_what_does_not_divide_goes_to_the_largest_remainders() -> None:
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([10, 10, 5, 5]))
    assert torch.bincount(labels[stratified(labels, 15, 0)[1]]).tolist() == [5, 5, 3, 2]


def test_the_counters_decide() -> None:
    first, again, other = (stratified(LABELS, 30, *counters)[1] for counters in [(3, 1), (3, 1), (3, 2)])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_row_is_set_aside_equally_often() -> None:
    labels = torch.tensor([0] * 6 + [1] * 4)
    times = torch.zeros(10)
    for seed in range(600):
        times[stratified(labels, 5, seed)[1]] += 1
    assert ((times / 600 - 0.5).abs() < 0.08).all()
