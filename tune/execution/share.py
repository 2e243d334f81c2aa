"""A sweep's share of a cluster that others use as well: plain arithmetic over what is held, free and waited for.

A job is whatever has joined the cluster by itself, a sweep's driver among them. Its share is its dominant one: the
largest part that it holds of any resource (Ghodsi et al. 2011, "Dominant resource fairness", section 4). A job is
behind another if that one, having given it a slot, would still have no smaller share.

The rule: a sweep takes what is free. Where nothing is, it waits for one slot if it has none or is behind another job. A
sweep that a waiting job is behind takes nothing more, and gives up one slot after the other as its trials end. So
sweeps with equal trials end up with as many slots each, to within one. Where there are more sweeps than slots, those
without one get theirs as the others end.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tune.execution.nodes import Node

_LITTLE = 1e-9
"""Sums of fractions differ by rounding."""


@dataclass(frozen=True)
class Claim:
    """What a job holds on a node, or waits for where `node` is None: amounts by Ray's names."""

    job: str
    amounts: Mapping[str, float]
    node: str | None


@dataclass(frozen=True)
class Occupancy:
    """What is taken of a cluster.

    Attributes:
        job: of this driver.
        available: what Ray reports as free, by node; it may be a second old.
        claims: of all jobs.
    """

    job: str
    available: Mapping[str, Mapping[str, float]]
    claims: Sequence[Claim]


def claims_of(table: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """Return the claims in a table of Ray's placement groups, by their ids, whose last 8 digits are the job's.

    What no node of the cluster can ever hold is no claim: it waits for other nodes.
    """
    claims = []
    for name, group in table.items():
        waits = group["state"] in ("PENDING", "PREPARED", "RESCHEDULING")
        if group["state"] != "CREATED" and not (waits and group["stats"]["scheduling_state"] != "INFEASIBLE"):
            continue
        for index, amounts in group["bundles"].items():
            node = group["bundles_to_node_id"].get(index) or None
            claims.append(Claim(name[-8:], amounts, None if waits else node))
    return claims


def unoccupied(nodes: Iterable[Node], occupied: Occupancy) -> list[Node]:
    """Return the nodes with what is free on each: what Ray reports, and never more than the claims leave."""
    found = []
    for node in nodes:
        left = dict(node.resources)
        for claim in occupied.claims:
            if claim.node == node.id:
                for name, amount in claim.amounts.items():
                    left[name] = left.get(name, 0.0) - amount
        reported = occupied.available.get(node.id, {})
        free = {name: max(0.0, min(amount, reported.get(name, 0.0))) for name, amount in left.items()}
        found.append(replace(node, resources=free))
    return found


def in_vain(nodes: Sequence[Node], occupied: Occupancy) -> set[str]:
    """Return the jobs that wait although a node has free what they wait for: for something else, such as a label."""
    free = [node.resources for node in unoccupied(nodes, occupied)]
    waiting = [claim for claim in occupied.claims if claim.node is None]
    return {claim.job for claim in waiting if any(_fits(claim.amounts, amounts) for amounts in free)}


def kept(nodes: Sequence[Node], occupied: Occupancy, slot: Mapping[str, float], ignored: Collection[str]) -> int | None:
    """Return how many of its slots a sweep keeps where a job that waits is behind it, else None.

    Args:
        nodes: of the cluster, with their total resources.
        occupied: what is taken of them.
        slot: the resources of one of the sweep's trials.
        ignored: jobs that a slot would not serve.
    """
    total, mine = _sum(node.resources for node in nodes), _placed(occupied.job, occupied.claims)
    after = _dominant(_sum([*mine, slot]), total) - 2 * _dominant(slot, total)
    for claim in occupied.claims:
        if claim.node is not None or claim.job in {occupied.job, *ignored} or not _fits(claim.amounts, slot):
            continue
        theirs = _dominant(_sum([*_placed(claim.job, occupied.claims), claim.amounts]), total)
        if len(mine) > 1 and after >= theirs - _LITTLE:
            return len(mine) - 1
    return None


def allowance(nodes: Sequence[Node], occupied: Occupancy, slot: Mapping[str, float], free: int) -> int:
    """Return how many slots a sweep that gives up none may use, one that it waits for among them.

    Args:
        nodes, occupied, slot: see `kept`.
        free: how many slots fit in what is free on usable nodes.
    """
    total, mine = _sum(node.resources for node in nodes), _placed(occupied.job, occupied.claims)
    after = _dominant(_sum([*mine, slot]), total)
    behind = False
    for job in {claim.job for claim in occupied.claims} - {occupied.job}:
        if theirs := _placed(job, occupied.claims):
            smallest = min(_dominant(amounts, total) for amounts in theirs)
            behind |= _dominant(_sum(theirs), total) - smallest >= after - _LITTLE
    return len(mine) + max(free, 1 if behind or not mine else 0)


def _placed(job: str, claims: Iterable[Claim]) -> list[Mapping[str, float]]:
    """Return what a job holds."""
    return [claim.amounts for claim in claims if claim.job == job and claim.node is not None]


def _sum(several: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for amounts in several:
        for name, amount in amounts.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _dominant(amounts: Mapping[str, float], total: Mapping[str, float]) -> float:
    """Return the largest part that amounts are of any resource."""
    return max((amount / total[name] for name, amount in amounts.items() if total.get(name)), default=0.0)


def _fits(amounts: Mapping[str, float], slot: Mapping[str, float]) -> bool:
    """Return whether a slot holds these amounts."""
    return all(amount <= slot.get(name, 0.0) + _LITTLE for name, amount in amounts.items())
