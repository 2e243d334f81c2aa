"""Counter-based random numbers: integer hashes of counters, without generators and state.

The same counters give the same bits on every device, in every order of calls and in every version of torch.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def _mixed(word: int) -> int:
    """Return the output function of SplitMix64 (Steele, Lea & Flood 2014, figure 15) of a 64-bit word."""
    word = ((word ^ (word >> 30)) * _FIRST) & _WORD
    word = ((word ^ (word >> 27)) * _SECOND) & _WORD
    return word ^ (word >> 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _mixed_tensor(words: Tensor) -> Tensor:
    """Return `_mixed` of each int64 element; torch's shifts extend the sign, which is masked away."""
    words = (words ^ ((words >> 30) & ((1 << 34) - 1))) * _signed(_FIRST)
    words = (words ^ ((words >> 27) & ((1 << 37) - 1))) * _signed(_SECOND)
    return words ^ ((words >> 31) & ((1 << 33) - 1))


def key(*counters: int) -> int:
    """Return a 64-bit hash, as a signed int, of a sequence of integers."""
    word = 0
    for counter in counters:
        word = _mixed(((word + _GOLDEN) ^ counter) & _WORD)
    return _signed(word)


def draws(stream: int, index: Tensor, count: int) -> Tensor:
    """Return `count` independent numbers for each index: int64 [count, N], uniform in 0 … 2³² - 1.

    Args:
        stream: a word from `key`.
        index: int64 [N]; equal indices get equal numbers.
        count: numbers per index; a larger count appends to the numbers of a smaller one.
    """
    own = _mixed_tensor(index + stream)
    steps = torch.arange(1, count + 1, device=index.device).unsqueeze(1) * _signed(_GOLDEN)
    return (_mixed_tensor(own + steps) >> 32) & 0xFFFFFFFF


def below(numbers: Tensor, limit: int) -> Tensor:
    """Return the numbers of `draws` scaled to 0 … limit - 1, by multiplication, for limits below 2³¹."""
    return (numbers * limit) >> 32


def permutation(count: int, *counters: int) -> Tensor:
    """Return a random order of 0 … count - 1 as int64 [count], on the CPU; it depends on the counters only."""
    return torch.argsort(draws(key(*counters), torch.arange(count), 1)[0], stable=True)
