"""Time spans of the sweep file."""

import pytest

from supersnn.config_model import parse
from supersnn.digests import digest
from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.description.time_span import seconds_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("90 s", 90), ("10 min", 600), ("10m", 600), ("1.5 h", 5400), ("2d", 172800)],
)
def test_seconds_of_numbers_and_texts(value: object, seconds: float) -> None:
    assert seconds_of(value) == seconds
    assert parse(ResourcesConfig, {"stall": value}, "test").stall == seconds


@pytest.mark.parametrize("value", ["soon", "10 weeks", "-3 min", "", 0, -1, True])
def test_what_is_no_time_span_is_refused_with_the_key(value: object) -> None:
    with pytest.raises(UserError, match="stall"):
        parse(ResourcesConfig, {"stall": value}, "test")


def test_the_default_changes_no_digest() -> None:
    assert digest(ResourcesConfig()) == digest(ResourcesConfig(stall=600.0)) != digest(ResourcesConfig(stall=601.0))
