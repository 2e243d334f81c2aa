"""Addressed random numbers: their definition, their independence of company, their distribution."""

import torch
from scipy.stats import chisquare

from supersnn.randomness import below, draws, key, permutation

WORD = (1 << 64) - 1


def splitmix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def slow_draw(stream: int, index: int, number: int) -> int:
    own = splitmix((index + stream) & WORD)
    return splitmix((own + (number + 1) * 0x9E3779B97F4A7C15) & WORD) >> 32


def test_the_mixing_is_splitmix64() -> None:
    # the first output of SplitMix64 from state 0, a published check value
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    assert key(0) & WORD == 0xE220A8397B1DCDAF


def test_draws_equal_whole_numbers_of_python() -> None:
    index = torch.tensor([0, 1, 2, 49_999, 2**40])
    for stream in (key(0), key(3, 7), key(2**62, 1)):
        fast = draws(stream, index, 4)
        assert fast.tolist() == [[slow_draw(stream, i, n) for i in index.tolist()] for n in range(4)]


def test_a_draw_does_not_depend_on_its_company() -> None:
    index = torch.arange(100)
    together = draws(key(5), index, 3)
    alone = torch.cat([draws(key(5), index[i : i + 1], 3) for i in range(100)], 1)
    assert torch.equal(together, alone)
    assert torch.equal(draws(key(5), index, 1), together[:1])


def test_every_counter_and_its_place_matter() -> None:
    keys = {key(a, b) for a in range(30) for b in range(30)}
    assert len(keys) == 900
    assert key(1) != key(1, 0) != key(0, 1)


def test_numbers_are_uniform_over_index_view_and_draw() -> None:
    index = torch.arange(5000)
    for numbers in (draws(key(0, 0), index, 2), torch.cat([draws(key(0, v), index[:10], 2) for v in range(500)], 1)):
        for row in numbers:
            assert chisquare(torch.bincount(below(row, 9), minlength=9)).pvalue > 1e-3
            assert chisquare(torch.bincount(row & 7, minlength=8)).pvalue > 1e-3
        assert abs(torch.corrcoef(numbers.double())[0, 1]) < 0.05


def test_neighbouring_indices_and_views_are_unrelated() -> None:
    here, next_view = draws(key(0, 0), torch.arange(5000), 1)[0], draws(key(0, 1), torch.arange(5000), 1)[0]
    assert abs(torch.corrcoef(torch.stack([here, next_view]).double())[0, 1]) < 0.05
    assert abs(torch.corrcoef(torch.stack([here[1:], here[:-1]]).double())[0, 1]) < 0.05


def test_below_reaches_both_ends_and_no_further() -> None:
    assert below(torch.tensor([0, 2**32 - 1]), 9).tolist() == [0, 8]
    assert below(torch.tensor([0, 2**32 - 1]), 1).tolist() == [0, 0]


def test_permutation_holds_each_place_once_and_changes_with_its_counters() -> None:
    order = permutation(1000, 4, 2)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, permutation(1000, 4, 2))
    assert not torch.equal(order, permutation(1000, 4, 3))
