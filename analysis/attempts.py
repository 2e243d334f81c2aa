"""Failed attempts that were repeated: how many, and on which nodes, in sentences."""

from collections.abc import Iterator

from analysis.sentences import listed
from analysis.tables import Sweep

NAMED = 4
"""Nodes that a sentence names."""


def findings(sweep: Sweep) -> Iterator[str]:
    """Yield a sentence where attempts have failed because of a machine, and one for errors of the trials' own."""
    by_node = sorted(sweep.state.failed_on.items(), key=lambda item: (-item[1], item[0]))
    machines, every = sum(sweep.state.failed_on.values()), int(sweep.trials["attempts"].sum())
    if machines:
        named = listed(f"{node or 'an unknown node'} ({count})" for node, count in by_node[:NAMED])
        more = f" and {len(by_node) - NAMED} more" if len(by_node) > NAMED else ""
        yield (f"{_attempts(machines)} failed because of the machine, on {named}{more}. The trials went on from their "
               "last checkpoints; no arm's budget was charged.")  # fmt: skip
    if own := every - machines:
        yield f"{_attempts(own)} failed with an error of the trial's own, and were repeated."


def _attempts(count: int) -> str:
    return f"{count} attempt{'s' * (count > 1)} of trials"
