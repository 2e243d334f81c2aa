"""Base class of all configuration models: frozen, and strict about keys; its values are checked when it is made.

A validation error is one line that names the file, the key, the value found, and the nearest known key.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from supersnn.config_errors import mistakes
from supersnn.errors import UserError, shortened
from supersnn.nested import Scalar, merge, unflatten
from supersnn.plain_yaml import dump_yaml

_MESSAGES, _MESSAGES_LENGTH = 3, 350
"""How many mistakes an error lists, and how many characters of them, before it only counts the others."""


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {str(value).lower()} (YAML reads yes, no, on and off as that)")
    return value


Integer = Annotated[int, BeforeValidator(_no_truth_value)]
Number = Annotated[float, BeforeValidator(_no_truth_value)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Positive = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
Count = Annotated[Integer, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class ArgumentMapping(dict[str, Any]):
    """The arguments of a part, hashable as all values of a frozen model are."""

    def __hash__(self) -> int:  # type: ignore[override]
        """Return a hash of the values."""
        return hash(json.dumps(self, sort_keys=True))


def _as_arguments(values: dict[str, Any]) -> ArgumentMapping:
    for name in values:
        if not name.isidentifier():
            raise ValueError(f"expected the name of an argument, found {shortened(repr(name))}")
    return ArgumentMapping(values)


Arguments = Annotated[dict[str, Scalar | tuple[Scalar, ...]], AfterValidator(_as_arguments)]
"""The arguments of a part of your own: names with plain values, or lists of them."""
NO_ARGUMENTS = ArgumentMapping()


class ConfigModel(BaseModel):
    """Base class of configuration models: frozen, without unknown keys, NaN and infinity.

    `MOVED_KEYS` maps dotted keys to their older names, which digests still use, so that stored files stay addressable.
    """

    MOVED_KEYS: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=ConfigModel)


def to_yaml(config: ConfigModel) -> str:
    """Return the configuration as YAML, with all keys, in the order of its fields."""
    return dump_yaml(config.model_dump(mode="json"))


def parse(model: type[S], data: Mapping[str, Any], origin: str) -> S:
    """Return `data` as a `model`; error messages begin with `origin`, usually a file name.

    Raises:
        UserError: one line that names the key, its value, what was expected, and the nearest known key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        messages = list(mistakes(model, data, error, origin))
        first, _ = messages[0]
        shown = [": ".join(messages[0])]
        for file, text in messages[1:_MESSAGES]:
            message = text if file == first else f"{file}: {text}"
            if len("; ".join([*shown, message])) <= _MESSAGES_LENGTH:
                shown.append(message)
        others = f"; and {len(messages) - len(shown)} more" if len(messages) > len(shown) else ""
        raise UserError(f"{'; '.join(shown)}{others}") from None


def with_values(config: S, values: Mapping[str, Any], origin: str = "values") -> S:
    """Return the configuration with the values of some dotted keys replaced, validated again."""
    current = {current_key(type(config), key): value for key, value in values.items()}
    return parse(type(config), merge(config.model_dump(mode="json"), unflatten(current)), origin)


def current_key(model: type[ConfigModel], key: str) -> str:
    """Return today's name of a dotted key that may be an older one."""
    return {older: name for name, older in model.MOVED_KEYS.items()}.get(key, key)
