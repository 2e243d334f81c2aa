"""Architecture families and kinds of pairing: the one definition of the variable that arms are compared by."""

import re
from typing import Literal

Pairing = Literal["none", "homogeneous", "heterogeneous"]

LIBRARIES = ("torchvision", "timm")
"""The prefixes of architectures that are another library's, as in ``torchvision:resnet18``."""
_PREFIXES = {"wide_resnet": "wrn", "resnet": "resnet", "vgg": "vgg"}


def family(architecture: str) -> str:
    """Return the family of an architecture by its name, as ``resnet`` of ``resnet8`` and of ``torchvision:resnet18``.

    That of an import path is the path itself, unless the network declares another one
    (`supersnn.networks.build.family`).

    Whether there is such an architecture is not checked (`supersnn.networks.build.require_known` does).
    """
    library, colon, rest = architecture.partition(":")
    if colon and library not in LIBRARIES:
        return architecture
    name = rest if colon else architecture
    for prefix, known in _PREFIXES.items():
        if name.startswith(prefix):
            return known
    letters = re.match(r"([a-z]+?)(?=v?\d|[^a-z]|$)", name)
    return letters.group(1) if letters else name


def pairing(student_family: str, teacher_family: str | None) -> Pairing:
    """Return the kind of a pairing: homogeneous where both families are the same, none without a teacher."""
    if teacher_family is None:
        return "none"
    return "homogeneous" if student_family == teacher_family else "heterogeneous"
