"""Names of the layers that relations are compared on: stages, counted from the end."""

import re

LAST = "last"
STAGES = (LAST, "last-1", "last-2")
"""What `loss.relation.layers: stages` stands for: all of this package's networks have at least three stages."""
_NAME = re.compile(r"last(?:-([1-9]))?$")


def layer_names(layers: str) -> tuple[str, ...]:
    """Return the layers that `loss.relation.layers` names.

    Raises:
        ValueError: a name is not known, or is given twice.
    """
    if layers == "stages":
        return STAGES
    names = tuple(name.strip() for name in layers.split(","))
    for name in names:
        if not _NAME.match(name):
            raise ValueError(f"expected stages, or a list of last, last-1, last-2 and so on, found {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"expected each layer once, found {name!r} twice")
    return names


def stages_back(layer: str) -> int:
    """Return how many stages before the last one a layer is."""
    match = _NAME.match(layer)
    assert match is not None
    return int(match[1] or 0)
