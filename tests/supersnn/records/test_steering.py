"""What requests add up to."""

from typing import Any

import pytest

from supersnn.records import steering
from supersnn.records.events import RequestKind, RequestTaken, SweepStarted, TrialEnded, TrialStarted, parse
from supersnn.records.state import SweepState


def taken(number: int, kind: RequestKind, *searches: str, **fields: Any) -> RequestTaken:
    return RequestTaken(id=str(number), kind=kind, searches=list(searches), **fields)


def state_of(*events: Any) -> SweepState:
    state = SweepState()
    for event in events:
        state.apply(event)
    return state


def test_pauses_and_resumes_follow_each_other() -> None:
    events = [taken(1, "pause", "a", "b"), taken(2, "resume", "b"), taken(3, "pause", "c", refused="no")]
    assert steering.paused(state_of(*events)) == {"a"}
    assert steering.paused(state_of(*events, taken(4, "resume", "a", "b"))) == set()


def test_given_trials_wait_until_they_have_started() -> None:
    events: list[Any] = [
        taken(1, "enqueue", "a", "b", values={"x": 1}),
        taken(2, "retry", "a", trial=0, values={"x": 2}),
    ]
    state = state_of(*events)
    assert [one.id for one in steering.given(state, "a")] == ["1", "2"]
    assert [one.id for one in steering.given(state, "b")] == ["1"]
    state.apply(TrialStarted(arm="a", trial=3, config={}, params={"x": 1}, request="1"))
    assert [one.id for one in steering.given(state, "a")] == ["2"]
    assert [one.id for one in steering.given(state, "b")] == ["1"]
    assert steering.retried(state, "a") == {0}
    assert steering.favoured(state) == {"a": 1, "b": 1}, "a trial that is run again has the sampler's values"


def test_a_request_counts_once() -> None:
    state = state_of(taken(1, "pause", "a"), taken(2, "resume", "a"))
    assert state.apply(taken(1, "pause", "a")) is False
    assert steering.paused(state) == set()


def test_changes_keep_what_the_file_had_first() -> None:
    state = state_of(
        SweepStarted(driver="d", config="old"),
        taken(1, "change", values={"search.trials": 9}, before={"search.trials": 4}, config="new"),
        taken(2, "change", values={"search.trials": 12}, before={"search.trials": 4}, config="newer"),
        taken(3, "change", values={"search.hours": 1}, config="none", refused="no"),
    )
    assert steering.overrides(state) == [steering.Override("search.trials", 4, 12, earlier=(9,))]
    assert state.config == "newer"


@pytest.mark.parametrize(("given", "before"), [(4, 4), (9, 4), (6, 6)])
def test_a_change_of_a_file_that_was_edited_has_what_the_file_had_then(given: int, before: int) -> None:
    """A driver that was given 9 has read the sweep as it was changed."""
    state = state_of(
        taken(1, "change", values={"search.trials": 9}, before={"search.trials": 4}),
        taken(2, "change", values={"search.trials": 12}, before={"search.trials": given}),
    )
    earlier = (9,) if before == 4 else ()
    assert steering.overrides(state) == [steering.Override("search.trials", before, 12, earlier)]


def test_changes_that_a_driver_found_outdated_never_hold_again() -> None:
    trials, hours = {"search.trials": 9}, {"search.hours": 2}
    state = state_of(
        taken(1, "change", values=trials | hours, before={"search.trials": 4, "search.hours": None}),
        SweepStarted(driver="d", outdated=["search.trials"]),
    )
    assert [change.key for change in steering.overrides(state)] == ["search.hours"]
    state.apply(taken(2, "change", values=trials, before={"search.trials": 6}))
    assert steering.overrides(state)[-1] == steering.Override("search.trials", 6, 9)
    start = SweepStarted(driver="d")
    assert "outdated" not in start.model_dump_json(exclude=start.left_out())


def test_a_start_has_a_request_only_where_there_is_one() -> None:
    plain = TrialStarted(arm="a", trial=0, config={})
    assert "request" not in plain.model_dump_json(exclude=plain.left_out())
    given = TrialStarted(arm="a", trial=0, config={}, request="1")
    line = given.model_dump_json(exclude=given.left_out())
    assert parse(line) == given
    state = state_of(given, TrialEnded(arm="a", trial=0, end="failed:nan"))
    assert state.search("a").trials[0].request == "1"
