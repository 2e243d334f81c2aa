"""Arms whose names have a meaning: the baseline, the control, and the pair that a sweep is run for."""

from collections.abc import Sequence

BASELINE = "direct"
"""The arm without a teacher, with which every other arm is compared."""
CONTROL = "shuffled"
"""The arm with the teacher's relations of other samples: a gain of it does not come from the relations."""
HOMOGENEOUS, HETEROGENEOUS = "homogeneous", "heterogeneous"
"""The arms whose comparison is the sweep's question."""


def comparisons(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of arms to compare: heterogeneous with homogeneous, then each arm with the baseline."""
    question = [(HETEROGENEOUS, HOMOGENEOUS)] if {HETEROGENEOUS, HOMOGENEOUS} <= set(arms) else []
    return question + ([(arm, BASELINE) for arm in arms if arm != BASELINE] if BASELINE in arms else [])
