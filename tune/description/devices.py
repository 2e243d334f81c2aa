"""Which devices a sweep's trials use, in words: for the plan, `doctor` and the board."""

from collections.abc import Sequence

from tune.description.sweep import ResourcesConfig


def devices_text(need: ResourcesConfig, shards: int, gpus: Sequence[str]) -> str:
    """Return the devices of a sweep's trials on a machine, or a cluster, with these GPUs by name."""
    taken = need.resolved(shards, [len(gpus)]).gpus_taken
    if not gpus:
        return "CPUs" if not taken else f"{taken:g} GPU a trial, but there is none here"
    there = f"{len(gpus)} × {gpus[0]}" if len(set(gpus)) == 1 else ", ".join(gpus)
    if not taken:
        reason = f"resources.gpus is {need.gpus:g}" if need.gpus != "auto" else f"{shards} shards need as many GPUs"
        return f"CPUs; not used: {there}, because {reason}"
    return f"{there}, {taken:g} a trial"
