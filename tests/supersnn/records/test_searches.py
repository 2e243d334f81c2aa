"""Names of searches: they and what they name follow from each other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supersnn.records.searches import SearchId, split_key, trial_key
from tune.description.sweep import NAME

NAMES = st.from_regex(re.compile(NAME.strip("^$"), re.ASCII), fullmatch=True)


@given(NAMES, st.none() | NAMES, st.integers(0, 10_000))
def test_a_search_and_its_name_follow_from_each_other(arm: str, dataset: str | None, replicate: int) -> None:
    search = SearchId(arm, dataset, replicate)
    assert SearchId.parse(str(search)) == search
    assert re.fullmatch(r"[A-Za-z0-9_.~-]+", str(search))
    assert split_key(trial_key(str(search), 12)) == (str(search), 12)
    if (dataset, replicate) == (None, 0):
        assert str(search) == arm


def test_names_of_searches_in_words() -> None:
    assert str(SearchId("direct")) == "direct"
    assert str(SearchId("direct", replicate=2)) == "direct~2"
    assert str(SearchId("direct", "fashion")) == "direct~fashion~0"


@pytest.mark.parametrize("name", ["a~0", "a~x", "a~b~c", "a~b~01", "a~b~2~3", "a~", "~", "", "a~\u0661"])
def test_a_text_that_names_no_other_search_is_an_arm(name: str) -> None:
    assert SearchId.parse(name) == SearchId(name)
