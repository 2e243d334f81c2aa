"""The sampling error of the test images from the images on which networks disagree."""

import numpy as np
import pandas as pd
import pytest

from analysis import compare
from analysis.statistics import image_error
from supersnn.records.packed import bits_of, packed


def runs(right: dict[str, list[list[np.ndarray]]]) -> pd.DataFrame:
    """Return the final runs of arm → replicate → seed → which images are right."""
    return pd.DataFrame([
        {"sweep": "s", "dataset": "digits", "arm": arm, "replicate": replicate, "seed": seed, "test": vector.mean(),
         "images": float(len(vector)), "right": packed(vector.tolist())}
        for arm, replicates in right.items() for replicate, seeds in enumerate(replicates)
        for seed, vector in enumerate(seeds)
    ])  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 359])
def test_a_packed_vector_comes_back(count: int) -> None:
    right = np.random.default_rng(count).random(count) < 0.7
    images, bits = bits_of(packed(right.tolist()))
    assert images == count
    assert np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=count).astype(bool).tolist() == right.tolist()


@pytest.mark.parametrize("text", ["", "x:", "9:AA==", "8:A", "-8:AA==", "8"])
def test_a_damaged_vector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        bits_of(text)


def test_two_networks_have_the_error_of_mcnemar() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 400)) < 0.8
    row = compare.verdicts(runs({"logit": [[a]], "direct": [[b]]})).iloc[0]
    gained, lost, n = (a & ~b).sum(), (b & ~a).sum(), 400
    expected = np.sqrt((gained + lost) / n - ((gained - lost) / n) ** 2) / np.sqrt(n - 1)
    assert row["images_known"]
    assert row["image_se"] == pytest.approx(expected)


def test_the_error_is_that_of_other_test_images_and_far_below_the_bound_where_errors_agree() -> None:
    rng = np.random.default_rng(1)
    images, draws, count = 500, 400, 3
    hard = rng.random(100_000)

    def networks(gain: float) -> list[np.ndarray]:
        return [hard + 0.1 * rng.standard_normal(len(hard)) < 0.8 + gain for _ in range(count)]

    of_a, of_b = networks(0.02), networks(0.0)
    differences, errors, bounds = list[float](), list[float](), list[float]()
    for _ in range(draws):
        shown = rng.choice(len(hard), images, replace=False)
        table = runs({"logit": [[one[shown]] for one in of_a], "direct": [[one[shown]] for one in of_b]})
        row = compare.verdicts(table).iloc[0] if len(errors) < 20 else None
        mean_a, mean_b = (float(np.mean([one[shown].mean() for one in side])) for side in (of_a, of_b))
        differences.append(mean_a - mean_b)
        if row is not None:
            errors.append(row["image_se"])
            bounds.append(image_error(mean_a, mean_b, images))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.15)
    assert np.mean(errors) < np.mean(bounds) / 2


def test_without_every_vector_the_bound_is_given() -> None:
    rng = np.random.default_rng(2)
    table = runs({arm: [[rng.random(300) < 0.8] for _ in range(3)] for arm in ("logit", "direct")})
    assert compare.verdicts(table).iloc[0]["images_known"]
    for lacking in (None, "7:AA==", "299:"):
        table.loc[0, "right"] = lacking
        row = compare.verdicts(table).iloc[0]
        assert not row["images_known"]
        a, b = (float(table.loc[table["arm"] == arm, "test"].mean()) for arm in ("logit", "direct"))
        assert row["image_se"] == pytest.approx(image_error(a, b, 300))
