"""The allocation of a sweep's budget: replicates and fresh seeds that find a difference, and what they cost."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.arms import comparisons
from analysis.pilot import Pilot
from analysis.planning import POWER, Allocation, Variances, cheapest, combined, detectable, half_width, power
from tune.description.arms import Arm, resolve
from tune.description.replication import most_replicates, until
from tune.description.sweep import SweepConfig

REPLICATES = (2, 3, 5, 7, 10, 15, 20)
"""Numbers of replicates of which a plan without a pilot says what they find."""


def allocation(sweep: SweepConfig, origin: str, pilots: Mapping[str, Pilot], difference: float) -> dict[str, Any]:
    """Return the cheapest replicates and fresh seeds that find a difference with 80 % power, as plain values.

    Accuracies are fractions. `datasets` has the plan of each data set by itself, `plan` one that is enough on all of
    them, `cautious` the same with the upper 80 % confidence limit of the variance between searches, and `now` what the
    file as it is would find. Where that adds replicates until an interval is narrow enough, `until` has how many it
    will take, None where `at_most` are too few. A cost has `trainings` and `epochs` (at most), `hours` of training one
    at a time, `hours_at_once` in as many slots as the pilot had, and `gpu_hours`, with `gpus: auto` those of the
    pilot's trials, NaN where they are not known; these are without teachers. With `fair: compute` a search trains all
    epochs of its `trials`, and has more trials where some are stopped early.

    Args:
        sweep: the sweep to plan.
        origin: its file, for messages.
        pilots: of each data set.
        difference: the true one that is to be found.
    """
    arms = resolve(sweep, origin)
    costs = {name: _Costs(sweep, arms, pilot) for name, pilot in pilots.items()}
    compared = max(1, len(comparisons(list(arms))))
    every = list(costs.values())

    def plan(variances: Variances, of: list[_Costs]) -> dict[str, Any] | None:
        search, seed = (sum(part) for part in zip(*((one.search, one.seed) for one in of), strict=True))
        found = cheapest(difference, variances, search, seed, compared)
        return None if found is None else _plan(found, of)

    variances = combined(pilot.variances for pilot in pilots.values())
    replicates, seeds = most_replicates(sweep), sweep.verify.seeds
    variance = variances.of_difference(seeds)
    return {
        "sweep": sweep.name,
        "detect": difference,
        "power": POWER,
        "comparisons": compared,
        "arms": len(arms),
        "datasets": {name: _known(pilot) | {"plan": plan(pilot.variances, [costs[name]])}
                     for name, pilot in pilots.items()},
        "plan": plan(variances, every),
        "cautious": plan(combined(pilot.cautious for pilot in pilots.values()), every),
        **_until(sweep, variance),
        "now": {
            "replicates": replicates, "seeds": seeds,
            "power": power(difference, variance, replicates, compared) if replicates > 1 else 0.0,
            "detectable": detectable(variance, replicates, compared) if replicates > 1 else None,
        },
    }  # fmt: skip


def _until(sweep: SweepConfig, variance: float) -> dict[str, Any]:
    """Return what is planned where the replicates depend on how well the differences are known, else nothing."""
    if (wanted := until(sweep)) is None:
        return {}
    counts = range(wanted.at_least, wanted.at_most + 1)
    halves = {count: half_width(variance, count, wanted.at_most, wanted.at_least) for count in counts}
    enough = next((count for count, half in halves.items() if half <= wanted.until / 100), None)
    return {"until": wanted.model_dump() | {"replicates": enough, "half_width": halves[enough or wanted.at_most]}}


class _Costs:
    """What one search of every arm, and one fresh seed of every winner, costs on one data set, in epochs."""

    def __init__(self, sweep: SweepConfig, arms: Mapping[str, Arm], pilot: Pilot) -> None:
        search, verify = sweep.search, sweep.verify
        candidates = min(verify.top, search.trials)
        ranked = candidates * verify.rank_seeds if candidates > 1 else 0
        self.pilot, self.gpus = pilot, _share(sweep, pilot)
        self.trainings = len(arms) * (search.trials * search.seeds_per_trial + ranked)
        self.arms, self.epochs = len(arms), sweep.train.epochs
        share = 1.0 if search.fair == "compute" else pilot.trained
        trained = search.trials * search.seeds_per_trial * share + ranked
        self.search, self.seed = len(arms) * trained * self.epochs, len(arms) * self.epochs

    def total(self, replicates: int, seeds: int) -> dict[str, float]:
        """Return the cost of so many replicates, each with so many fresh seeds of each winner."""
        hours = replicates * (self.search + seeds * self.seed) * self.pilot.epoch_seconds / 3600
        trainings = replicates * (self.trainings + seeds * self.arms)
        return {"trainings": trainings, "epochs": trainings * self.epochs, "hours": hours,
                "hours_at_once": hours / self.pilot.at_once, "gpu_hours": hours * self.gpus}  # fmt: skip


def _share(sweep: SweepConfig, pilot: Pilot) -> float:
    """Return what a training has of a GPU: as the file says, or as in the pilot where it leaves that to the nodes."""
    gpus, pack = sweep.resources.gpus, sweep.resources.pack
    return pilot.gpus if gpus == "auto" or (gpus and pack == "auto") else gpus / (1 if pack == "auto" else pack)


def _plan(found: Allocation, of: list[_Costs]) -> dict[str, Any]:
    parts = [one.total(found.searches, found.seeds) for one in of]
    total = {key: sum(part[key] for part in parts) for key in parts[0]}
    return {"replicates": found.searches, "seeds": found.seeds, "power": found.power, **total}


def _known(pilot: Pilot) -> dict[str, Any]:
    return {
        "search_sd": math.sqrt(pilot.variances.search), "search_sd_limit": math.sqrt(pilot.cautious.search),
        "seed_sd": math.sqrt(pilot.variances.seed), "source": pilot.source, "searches": pilot.searches,
        "epoch_seconds": pilot.epoch_seconds,
    }  # fmt: skip


def rows(planned: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a plan's rows for a terminal: each data set, then what is enough on all of them."""
    table = []
    for name, one in planned["datasets"].items():
        sds = {"sd, searches": f"{100 * one['search_sd']:.2f}", "sd, seeds": f"{100 * one['seed_sd']:.2f}"}
        table.append({"data": name, **sds, **_row(one["plan"])})
    if len(table) > 1:
        table.append({"data": "all", "sd, searches": "", "sd, seeds": "", **_row(planned["plan"])})
    return table


def _row(plan: Mapping[str, Any] | None) -> dict[str, str]:
    if plan is None:
        return dict.fromkeys(("replicates", "seeds", "power", "trainings", "hours", "hours at once", "GPU-hours"), "–")
    return {"replicates": str(plan["replicates"]), "seeds": str(plan["seeds"]), "power": f"{100 * plan['power']:.0f} %",
            "trainings": f"{plan['trainings']:,}", "hours": _hours(plan["hours"]),
            "hours at once": _hours(plan["hours_at_once"]), "GPU-hours": _hours(plan["gpu_hours"])}  # fmt: skip


def _hours(hours: float) -> str:
    return f"{hours:.3g}" if math.isfinite(hours) else "–"


def sentences(planned: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a plan says, in sentences."""
    points, plan = 100 * planned["detect"], planned["plan"]
    aim = f"a true difference of {points:g} points with {100 * planned['power']:.0f} % power"
    family = f"{planned['comparisons']} comparisons of {planned['arms']} arms, Student's t with Holm"
    if plan is None:
        yield f"No affordable number of replicates finds {aim} ({family}): let each search be longer."
    else:
        yield (f"`replicates: {plan['replicates']}` and `verify: {{seeds: {plan['seeds']}}}` find {aim} at the least "
               f"cost ({family}).")  # fmt: skip
    cautious = planned["cautious"]
    limit = "more than can be afforded" if cautious is None else f"{cautious['replicates']} replicates"
    if any(one["source"] == "trials" for one in planned["datasets"].values()):
        yield ("The variance between searches is estimated from the trials of one search, which makes it too small: "
               "run 3 replicates first, then plan again with them.")  # fmt: skip
    else:
        yield (f"The pilot's few searches know their variance roughly: with its upper 80 % confidence limit it takes "
               f"{limit}.")  # fmt: skip
    now = planned["now"]
    if "until" in planned:
        yield _sentence_of_until(planned["until"])
    elif now["detectable"] is not None:
        yield (f"As it is, with {now['replicates']} replicates and {now['seeds']} seeds, the file finds it with "
               f"{100 * now['power']:.0f} % power, and {100 * now['detectable']:.2g} points with 80 %.")  # fmt: skip
    yield "Hours are of training, without teachers; at once: in as many slots as the pilot had."


def _sentence_of_until(wanted: Mapping[str, Any]) -> str:
    half, aim = f"±{100 * wanted['half_width']:.2g}", f"±{wanted['until']:g} points"
    if wanted["replicates"] is None:
        return (f"The file adds replicates until all comparisons are known to {aim}: by the pilot's variances "
                f"{wanted['at_most']}, the most it allows, reach about {half}.")  # fmt: skip
    return (f"The file adds replicates until all comparisons are known to {aim}: by the pilot's variances that takes "
            f"about {wanted['replicates']} of at most {wanted['at_most']}.")  # fmt: skip


def without_pilot(sweep: SweepConfig, origin: str) -> dict[str, Any]:
    """Return, as plain values, what numbers of replicates find, in standard deviations of a difference, and cost."""
    arms = resolve(sweep, origin)
    compared = max(1, len(comparisons(list(arms))))
    search, verify = sweep.search, sweep.verify
    candidates = min(verify.top, search.trials)
    ranked = candidates * verify.rank_seeds if candidates > 1 else 0
    each = len(arms) * (search.trials * search.seeds_per_trial + ranked + verify.seeds)
    return {
        "sweep": sweep.name,
        "comparisons": compared,
        "seeds": verify.seeds,
        "replicates": [
            {"replicates": count, "finds with 80 % power, sd": round(detectable(1.0, count, compared), 2),
             "trainings": count * each, "epochs": count * each * sweep.train.epochs}
            for count in REPLICATES
        ],
    }  # fmt: skip
