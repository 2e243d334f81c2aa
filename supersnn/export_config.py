"""What a trained student is for: the chip that it is meant for, and what its export folder has besides the weights.

No training depends on these keys: they are in no digest, and may be changed when a sweep is continued.
"""

from typing import Literal

from supersnn.config_model import ConfigModel

ChipName = Literal["speck", "loihi2", "spinnaker2"]
"""The keys of `supersnn.chips.limits.CHIPS`."""


class TargetConfig(ConfigModel):
    """The chip whose limits the student is compared with (`supersnn.chips`); its name alone stands for `chip: NAME`.

    With `require` a student that exceeds one of them is refused before it is trained.
    """

    chip: ChipName
    require: bool = False


class ExportConfig(ConfigModel):
    """The export folder. `int8` adds weights of 8 bits with thresholds scaled, and measures what they are worth."""

    int8: bool = False


def as_target(value: object) -> object:
    """Return the target as a mapping, where the chip's name stands for it."""
    return {"chip": value} if isinstance(value, str) else value
