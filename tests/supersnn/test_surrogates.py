import math

import pytest
import torch

from supersnn.surrogates import SURROGATES

FORMULAS = {
    "triangle": lambda x, w: max(0.0, 1 - abs(x) / w) / w,
    "rectangle": lambda x, w: (abs(x) < w) / (2 * w),
    "atan": lambda x, w: 1 / (2 * w) / (1 + (math.pi * x / (2 * w)) ** 2),
    "sigmoid": lambda x, w: 1 / (1 + math.exp(-x / w)) * (1 - 1 / (1 + math.exp(-x / w))) / w,
}


def test_every_surrogate_has_its_formula_here() -> None:
    assert SURROGATES.keys() == FORMULAS.keys()


@pytest.mark.parametrize("width", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivative_is_the_formula(name: str, width: float) -> None:
    points = [-9.0, -4.0, -1.5, -1.0, -0.24, 0.0, 0.1, 0.25, 0.8, 1.0, 3.0, 17.0]
    found = SURROGATES[name](torch.tensor(points), width)
    torch.testing.assert_close(found, torch.tensor([float(FORMULAS[name](x, width)) for x in points]))


@pytest.mark.parametrize("width", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivative_is_even_and_integrates_to_one(name: str, width: float) -> None:
    x = torch.linspace(-3000 * width, 3000 * width, 1_500_001, dtype=torch.float64)
    values = SURROGATES[name](x.clone(), width)
    torch.testing.assert_close(values, values.flip(0))
    assert float(torch.trapezoid(values, x)) == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_result_takes_the_memory_of_its_argument(name: str) -> None:
    x = torch.linspace(-2, 2, 9)
    assert SURROGATES[name](x, 1.0).data_ptr() == x.data_ptr()
