"""A sweep's share of a cluster: what it takes, waits for and gives up, and that sweeps side by side end up equal."""

from typing import Any

import pytest

from tune.description.sweep import ResourcesConfig
from tune.execution.nodes import Node, bundle, slots
from tune.execution.share import Claim, Occupancy, allowance, claims_of, in_vain, kept, unoccupied

CPU = {"CPU": 1.0}


def nodes(*cpus: float, **more: float) -> list[Node]:
    return [Node(f"n{number}", f"n{number}", {"CPU": one, **more}, {}) for number, one in enumerate(cpus)]


def occupied(*claims: Claim, job: str = "me", free: dict[str, float] | None = None) -> Occupancy:
    """What is taken, with a report of Ray's that is late: it has all of 99 CPUs free by default."""
    reported = {f"n{number}": {"CPU": 99.0, "GPU": 99.0} for number in range(9)}
    return Occupancy(job, {**reported, **{name: {"CPU": amount} for name, amount in (free or {}).items()}}, claims)


def allowed(cluster: list[Node], now: Occupancy, need: ResourcesConfig | None = None) -> int:
    """What `ClusterState` makes of them."""
    need = need or ResourcesConfig()
    fewer = kept(cluster, now, bundle(need), ())
    free = slots(unoccupied(cluster, now), need)
    return allowance(cluster, now, bundle(need), free) if fewer is None else fewer


def test_alone_a_sweep_takes_all_that_is_free() -> None:
    assert allowed(nodes(2, 3), occupied()) == 5
    held = [Claim("me", CPU, "n0"), Claim("me", CPU, "n1")]
    assert allowed(nodes(2, 3), occupied(*held)) == 5
    assert allowed(nodes(2, 3), occupied(*held, Claim("me", CPU, None))) == 5  # one that is about to be placed


def test_what_others_use_outside_of_placement_groups_is_not_free() -> None:
    assert allowed(nodes(2, 3), occupied(Claim("me", CPU, "n0"), free={"n0": 0.0, "n1": 1.0})) == 2


def test_on_a_full_cluster_a_sweep_waits_for_one_slot() -> None:
    other = [Claim("other", CPU, "n0"), Claim("other", CPU, "n0")]
    assert allowed(nodes(2), occupied(*other)) == 1
    assert allowed(nodes(2), occupied(free={"n0": 0.0})) == 1  # full of what is no placement group
    balanced = [Claim("other", CPU, "n0"), Claim("me", CPU, "n0")]
    assert allowed(nodes(2), occupied(*balanced)) == 1


def test_a_job_that_waits_in_vain_is_told_apart() -> None:
    waiting = Claim("other", CPU, None)
    assert in_vain(nodes(2), occupied(waiting)) == {"other"}
    assert in_vain(nodes(2), occupied(Claim("me", CPU, "n0"), Claim("me", CPU, "n0"), waiting)) == set()
    held = [Claim("me", CPU, "n0")] * 2
    assert kept(nodes(2), occupied(*held, waiting), CPU, ()) == 1
    assert kept(nodes(2), occupied(*held, waiting), CPU, {"other"}) is None


def test_a_job_that_no_slot_would_hold_gets_none() -> None:
    held = [Claim("me", CPU, "n0")] * 4
    assert kept(nodes(4), occupied(*held, Claim("other", {"CPU": 3.0}, None)), CPU, ()) is None
    assert kept(nodes(4), occupied(*held, Claim("other", {"CPU": 0.5}, None)), CPU, ()) == 3


def test_shares_are_of_the_dominant_resource() -> None:
    cluster = nodes(64, GPU=4)
    mine = [Claim("me", {"CPU": 1.0, "GPU": 1.0}, "n0")] * 4
    slot = {"CPU": 1.0, "GPU": 1.0}
    many = [Claim("other", {"CPU": 1.0}, "n0")] * 40
    assert kept(cluster, occupied(*mine, *many, Claim("other", {"CPU": 1.0}, None)), slot, ()) == 3
    most = [Claim("other", {"CPU": 1.0}, "n0")] * 60
    assert kept(cluster, occupied(*mine, *most, Claim("other", {"CPU": 1.0}, None)), slot, ()) is None


@pytest.mark.parametrize(("slots_", "sweeps"), [(8, 2), (8, 3), (5, 2), (3, 3)])
def test_sweeps_side_by_side_end_up_equal_and_none_starves(slots_: int, sweeps: int) -> None:
    """Sweeps begin one after the other; trials end in turn, and a freed slot goes to who has waited longest."""
    cluster, names = nodes(*[1] * slots_), [f"s{number}" for number in range(sweeps)]
    held: list[tuple[str, int]] = []
    waiting: list[str] = []
    had: dict[str, int] = dict.fromkeys(names, 0)
    for turn in range(60 * slots_):
        begun = names[: 1 + turn // slots_]
        for name in begun:
            claims = [Claim(job, CPU, f"n{node}") for job, node in held] + [Claim(job, CPU, None) for job in waiting]
            mine = sum(job == name for job, _ in held) + waiting.count(name)
            more = allowed(cluster, occupied(*claims, job=name)) - mine
            waiting += [name] * max(0, more)
            free = sorted(set(range(slots_)) - {node for _, node in held})
            while free and waiting:
                held.append((waiting.pop(0), free.pop()))
        ended, node = held.pop(0)
        had[ended] += 1
        claims = [Claim(job, CPU, f"n{place}") for job, place in [*held, (ended, node)]]
        claims += [Claim(job, CPU, None) for job in waiting]
        keeps = allowed(cluster, occupied(*claims, job=ended))
        under_way = sum(job == ended for job, _ in held) + waiting.count(ended)
        if under_way < keeps:
            held.append((ended, node))
        elif waiting:
            held.append((waiting.pop(0), node))
    counts = [sum(job == name for job, _ in held) for name in names]
    assert sum(counts) == slots_
    assert max(counts) - min(counts) <= 1
    assert min(had.values()) > 0


def record(state: str, node: str = "", scheduling: str = "QUEUED") -> dict[str, Any]:
    return {
        "bundles": {0: CPU},
        "bundles_to_node_id": {0: node},
        "state": state,
        "stats": {"scheduling_state": scheduling},
    }


def test_claims_are_read_from_placement_groups() -> None:
    table = {
        "aa01000000": record("CREATED", "n0"),
        "bb02000000": record("PENDING"),
        "cc02000000": record("PENDING", scheduling="INFEASIBLE"),
        "dd02000000": record("REMOVED", "n0"),
    }
    assert claims_of(table) == [Claim("01000000", CPU, "n0"), Claim("02000000", CPU, None)]
