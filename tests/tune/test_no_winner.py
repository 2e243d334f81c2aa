"""Why an arm has no winner, in one line."""

from supersnn.records.events import TrialEnded, TrialStarted, WinnerChosen
from supersnn.records.state import SweepState
from tune.outcome.no_winner import without_winner


def test_the_ends_the_constraints_and_the_most_frequent_failure_are_named() -> None:
    state = SweepState()
    ends = [
        *(("direct", "finished", False), ("direct", "failed:silent", None), ("direct", "failed:nan", None)),
        *(("direct", "failed:silent", None), ("direct", "stopped", None), ("taught", "finished", True)),
    ]
    for number, (arm, end, feasible) in enumerate(ends):
        state.apply(TrialStarted(arm=arm, trial=number, config={}))
        state.apply(TrialEnded(arm=arm, trial=number, end=end, epochs=1, value=0.5, feasible=feasible))
    state.apply(WinnerChosen(arm="taught", trial=5))
    assert without_winner(["direct", "taught", "late"], state) == {
        "direct": (
            "5 trials: 1 finished, 1 stopped, 3 failed; 0 of 1 finished ones within search.constraints; "
            "2 × failed:silent"
        ),
        "late": "no trial was run",
    }
