"""The sampling error of the test images in a comparison: from the images on which the networks disagree."""

import math

import numpy as np

from analysis.statistics import Floats
from analysis.units import FinalRuns, Paired
from supersnn.records.packed import bits_of


def disagreement_error(part: Paired) -> float:
    """Return the standard error that the sampling of the test images gives the difference of two arms.

    The networks are fixed. The difference is a mean over images of each image's own difference: the share of the final
    runs of a that classify it correctly less that of b, over the paired units. Images on which all agree do not differ.
    For two networks it is the standard error of McNemar 1947, "Note on the sampling error of the difference between
    correlated proportions or percentages".

    NaN where a final run does not say which images it classified correctly, or they are not the same images.
    """
    shares = [(_share(a, part), _share(b, part)) for a, b in zip(part.runs_a, part.runs_b, strict=True)]
    known = [(a, b) for a, b in shares if a is not None and b is not None]
    sizes = {len(share) for pair in known for share in pair}
    if not shares or len(known) < len(shares) or len(sizes) != 1 or (images := sizes.pop()) < 2:
        return math.nan
    differences = np.mean([a - b for a, b in known], axis=0)
    return float(differences.std(ddof=1) / math.sqrt(images))


def _share(runs: FinalRuns, part: Paired) -> Floats | None:
    """Return the share of a winner's paired final runs that classify each image correctly."""
    seeds = part.names if part.unit == "seed" else tuple(runs.scores)
    vectors = [_vector(runs.right.get(seed)) for seed in seeds]
    known = [vector for vector in vectors if vector is not None]
    same = len({len(vector) for vector in known}) == 1
    return np.mean(known, axis=0) if same and len(known) == len(vectors) else None


def _vector(text: str | None) -> Floats | None:
    if text is None:
        return None
    try:
        images, bits = bits_of(text)
    except ValueError:
        return None
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=images).astype(np.float64)
