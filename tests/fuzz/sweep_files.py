"""Mutated sweep files through parser and dry run, and those that are accepted through a simulated search.

What must hold: a file is refused in one line with exit code 2, or the sweep that it describes starts and can end: its
data can be opened, its networks built, every trial that is suggested is a valid training, every arm gets its trials.
"""

import functools
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml

from supersnn.config import DatasetConfig, NetworkConfig, NeuronConfig, TrainConfig
from supersnn.data import TrainingData, training_data
from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.networks.build import build
from tests.fuzz import mutation
from tests.fuzz.command import TooSlow, at_most, call
from tests.fuzz.findings import Finding, last_line, place_of
from tests.fuzz.simulation import simulate
from tune.description.arms import Arm, resolve
from tune.description.conditions import existing
from tune.description.space import DEFAULTS, Values
from tune.description.sweep import SweepConfig, load
from tune.description.template import TEMPLATE

PART = "sweep_files"
SECONDS = 10.0
"""A mutant that takes longer is a finding."""
ROOT = Path(__file__).parents[2]

EVERYTHING = """\
# A file that uses every feature.
name: everything
seed: 3
dataset: {name: digits, images: 600, validation: 0.2, split_seed: 1, augment: {crop: 1, cutout: 2, views: 2}}
student: {architecture: resnet8, time_steps: 2, norm: tdbn, stem_stride: 1}
neuron: {kind: plif, detach_reset: false, width: 0.5}
teacher: {epochs: 2, lr: 0.05, seed: 4}
loss: {label: {kind: per_step, smoothing: 0.1}}
optimizer: {name: adamw, lr: 0.01, schedule: constant, warmup: 0.2, clip: 1.0}
train: {epochs: 6, batch_size: 32, precision: fp32, threads: 1}
arms:
  direct: {}
  homogeneous: {teachers: [resnet8, resnet14], students: [resnet8], losses: [relation, logit]}
  heterogeneous: {teachers: [vgg8, wrn16_2], space: {loss.relation.kind: {categorical: [cosine, gram]}}}
  feature: {teachers: [vgg8], losses: [feature], set: {loss.feature.weight: 0.3, optimizer.momentum: 0.8}}
  shuffled: {teachers: [vgg8]}
  two.students: {students: [resnet8, vgg8], space: {optimizer.momentum: {uniform: [0.5, 0.95], step: 0.05}}}
space:
  neuron.threshold: default
  neuron.reset: {categorical: [hard, soft]}
  neuron.surrogate: {categorical: [triangle, atan]}
  neuron.width: {log: [0.25, 4.0], when: {neuron.surrogate: atan}}
  optimizer.lr: {log: [1.0e-3, 0.3]}
  student.time_steps: {int: [1, 3]}
  train.batch_size: {int: [16, 64], step: 16, when: {neuron.reset: [hard, soft]}}
  loss.relation.pool: default
search:
  trials: 8
  sampler: tpe
  scheduler: asha
  fair: trials
  objectives: [accuracy, synaptic_ops]
  constraints: {spikes/rate: 0.9, energy/nj: 900}
  seeds_per_trial: 2
  startup: 4
  min_epochs: 2
  reduction: 3
  max_failures: 1
  enqueue: [{neuron.threshold: 0.7}, {optimizer.lr: 0.02, neuron.reset: soft}]
  warm_start: []
  hours: 2
  gpu_hours: 3
  stagnation: 6
verify: {seeds: 3, first_seed: 500, top: 2, rank_seeds: 2, train_on: train+validation}
resources: {cpus: 2, gpus: 0, memory: 2GB, labels: {zone: a}, trials_at_once: 2, stall: 20 min}
"""
REPLICATED = """\
# Several data sets and replicates.
name: replicated
seed: 1
dataset: {validation: 0.2}
datasets: {few: {name: digits, images: 400}, all: {name: digits, augment: {crop: 1}}}
student: {architecture: resnet8}
train: {epochs: 4, batch_size: 32}
replicates: 2
vary: [search, teacher, split]
arms: {direct: {}, homogeneous: {teachers: [resnet8]}}
space: {optimizer.lr: {log: [1.0e-3, 0.3]}, loss.relation.weight: default}
search: {trials: 3}
verify: {seeds: 2}
"""


@functools.cache
def sources() -> dict[str, str]:
    """The files that mutants are made of, by name."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("digits*.yaml"))}
    return {**found, "template": TEMPLATE, "everything": EVERYTHING, "replicated": REPLICATED}


@functools.cache
def keys() -> tuple[str, ...]:
    """Every dotted key of a sweep, those of its parts included."""
    plain = {"name": "x", "dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}, "arms": {"a": {}}}
    sweep = SweepConfig.model_validate(plain).model_dump(mode="json")
    return tuple(key for key in flatten(sweep) if not key.startswith("arms."))


@functools.cache
def searchable() -> tuple[str, ...]:
    """The dotted keys of a training."""
    plain = {"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}}
    return tuple(flatten(TrainConfig.model_validate(plain)))


def _set_key(data: Any, random: Random) -> tuple[str, Any]:
    key, value = random.choice(keys()), random.choice(mutation.VALUES)
    return f"{key}: {_short(value)}", _put(data, tuple(key.split(".")), value)


def _arm_key(data: Any, random: Random) -> tuple[str, Any]:
    arm = random.choice([*_section(data, "arms"), "new", "overall", "logit", "a" * 300, "x y", "shuffled"])
    section = random.choice(("teachers", "students", "losses", "space", "set"))
    value: Any = random.choice(mutation.VALUES)
    if section in ("space", "set") and random.random() < 0.8:
        value = {random.choice(searchable()): _parameter(data, random) if section == "space" else value}
    elif section != "losses" and random.random() < 0.5:
        names = ("resnet8", "vgg8", "wrn16_2", "resnet8", "resnet14", "torchvision:resnet18")
        value = [random.choice(names) for _ in range(random.randrange(4))]
    elif random.random() < 0.5:
        value = [random.choice(("relation", "logit", "feature", "relation")) for _ in range(random.randrange(4))]
    return f"arms.{arm[:20]}.{section}: {_short(value)}", _put(data, ("arms", arm, section), value)


def _space_key(data: Any, random: Random) -> tuple[str, Any]:
    key = random.choice(searchable()) if random.random() < 0.7 else random.choice([*_section(data, "space"), *DEFAULTS])
    value = _parameter(data, random)
    return f"space.{key}: {_short(value)}", _put(data, ("space", key), value)


def _conditions(data: Any, random: Random) -> tuple[str, Any]:
    """Put conditions between searched keys, cycles and keys that come later among them."""
    space = list(_section(data, "space")) or ["optimizer.lr"]
    told = []
    for _ in range(random.randrange(1, 4)):
        key, parent = random.choice(space), random.choice([*space, *searchable()])
        parameter = _section(data, "space").get(key)
        if not isinstance(parameter, dict):
            parameter = {"log": [0.1, 1.0]}
        value = random.choice((random.choice(mutation.VALUES), "hard", ["hard", "soft"], 1, 2, True))
        data = _put(data, ("space", key), {**parameter, "when": {parent: value}})
        told.append(f"space.{key}.when: {parent}: {_short(value)}")
    return "; ".join(told), data


def _enqueue(data: Any, random: Random) -> tuple[str, Any]:
    space = [
        *_section(data, "space"),
        "optimizer.lr",
        "neuron.treshold",
        "teacher.name",
        "student.architecture",
        "seed",
    ]
    trials = [
        {random.choice(space): random.choice(mutation.VALUES) for _ in range(random.randrange(3))}
        for _ in range(random.randrange(1, 4))
    ]
    return f"search.enqueue: {_short(trials)}", _put(data, ("search", "enqueue"), trials)


def _sampler(data: Any, random: Random) -> tuple[str, Any]:
    """Combine a sampler with what it may not like: few or many parameters, objectives, budgets."""
    search = {
        "sampler": random.choice(("tpe", "random", "qmc", "gp", "cmaes", "nsga2", "nsga3", "grid", "grid")),
        "scheduler": random.choice(("asha", "hyperband", "median", "wilcoxon", "none")),
        "fair": random.choice(("trials", "compute")),
        "objectives": random.choice((["accuracy"], ["accuracy", "synaptic_ops"])),
        "seeds_per_trial": random.choice((1, 2, 3)),
        "trials": random.choice((1, 2, 5, 9, 40)),
        "startup": random.choice((None, 1, 3, 100)),
        "min_epochs": random.choice((None, 1, 2, 50)),
        "reduction": random.choice((2, 3, 100)),
        "stagnation": random.choice((None, 1, 5)),
    }
    chosen = dict(random.sample(sorted(search.items()), random.randrange(1, 5)))
    return f"search: {_short(chosen)}", _put(data, ("search",), {**_section(data, "search"), **chosen})


def _parameter(data: Any, random: Random) -> Any:
    """A search parameter, often one that makes no sense."""
    numbers: tuple[Any, ...] = (
        0,
        1,
        2,
        3,
        0.1,
        0.5,
        0.9,
        1.0,
        1.5,
        10,
        64,
        100,
        -1,
        1e-9,
        1e9,
        "1e-2",
        "x",
        None,
        True,
        1e-300,
    )
    choices: tuple[Any, ...] = (
        *numbers,
        "hard",
        "bogus",
        "soft",
        "triangle",
        "cosine",
        "resnet8",
        "vgg8",
        "sgd",
        "adamw",
    )
    kind = random.choice(("uniform", "log", "int", "categorical", "categorical", "default", "odd"))
    if kind == "default":
        return kind
    if kind == "odd":
        return random.choice(mutation.VALUES)
    parameter: dict[str, Any]
    if kind == "categorical":
        parameter = {kind: [random.choice(choices) for _ in range(random.randrange(0, 5))]}
    else:
        parameter = {kind: [random.choice(numbers) for _ in range(random.choice((2, 2, 2, 2, 1, 3)))]}
        if random.random() < 0.7:
            parameter[kind].sort(key=lambda number: number if isinstance(number, (int, float)) else 0)
    if random.random() < 0.3:
        parameter["step"] = random.choice((1, 2, 0.5, 0.1, 1000, 0.3, 0, -1, "1", 1.5, 1e-9, float("nan")))
    if random.random() < 0.2:
        parent = random.choice([*_section(data, "space"), *searchable()])
        parameter["when"] = {parent: random.choice(choices)}
    return parameter


def _section(data: Any, name: str) -> dict[str, Any]:
    section = data.get(name) if isinstance(data, dict) else None
    return section if isinstance(section, dict) else {}


def _put(data: Any, path: mutation.Path, value: Any) -> Any:
    return mutation.replaced(data if isinstance(data, dict) else {}, path, value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 160 else text[:100] + f"… ({len(text)} characters)"


MEANINGFUL: tuple[Callable[[Any, Random], tuple[str, Any]], ...] = (
    *(_set_key, _set_key, _arm_key, _space_key, _space_key, _conditions, _enqueue, _sampler),
)


def mutant(seed: int, number: int) -> tuple[str, bytes]:
    """Return a mutant in words, and its file's content."""
    random = Random(f"{PART}/{seed}/{number}")
    name = random.choice(list(sources()))
    content = sources()[name]
    if random.random() < 0.35:
        done, data = mutation.text(content, random)
        return f"{name}: {done}", data
    told: list[str] = []
    plain = yaml.safe_load(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        what, plain = mutation.values(plain, random, MEANINGFUL)
        told.append(what)
    try:
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError:
        text = repr(plain)
    return f"{name}: {'; '.join(told)}", text.encode(errors="replace")


def prepare() -> None:
    """Import what the first case would otherwise wait for."""
    import torchvision.models  # noqa: F401

    torch.set_num_threads(1)
    list(try_file("unchanged", TEMPLATE.encode()))


def check(seed: int, number: int) -> tuple[str, list[Finding]]:
    """Try a mutant; return it in words, and what does not hold."""
    told, content = mutant(seed, number)
    return told, list(try_file(told, content, number))


def try_file(told: str, content: bytes, number: int = 0) -> Iterator[Finding]:
    """Yield what does not hold of a sweep file."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        file = Path(folder) / "sweep.yaml"
        file.write_bytes(content)
        ended = call(["sweep", file, "--dry-run", "--no-timing"], SECONDS)
        yield from ended.faults(PART, told, user=True)
        if ended.code or ended.error is not None:
            return
        try:
            with at_most(SECONDS), warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                warnings.simplefilter("ignore", ResourceWarning)
                sweep = load(file)
                arms = resolve(sweep, str(file))
                for what in (*_starts(sweep, arms), *simulate(sweep, arms, number)):
                    yield Finding(PART, "accepted, but cannot run", _kind(what), told, what[:300])
        except (Exception, TooSlow) as error:
            kind = "accepted, but takes too long" if isinstance(error, TooSlow) else "accepted, then raises"
            place = f"{place_of(error)} {_kind(str(error)) if isinstance(error, UserError) else ''}".strip()
            yield Finding(PART, kind, place, told, last_line(error))
            return
        for one in warned:
            yield Finding(
                PART, "warning", _kind(f"{one.category.__name__} {one.message}"), told, f"{one.message}"[:300]
            )


def _kind(text: str) -> str:
    text = re.sub(r"'[^']*'", "'…'", re.sub(r"/\S+", "PATH", text))
    return re.sub(r"\b\w+(\.\w+)+(?= with value)", "KEY", re.sub(r"(value )\S+|-?\d+(\.\d+)?(e-?\d+)?", r"\1N", text))[
        :60
    ]


@functools.lru_cache(maxsize=32)
def _data(config: DatasetConfig) -> TrainingData | str:
    try:
        return training_data(config)
    except UserError as error:
        return str(error)


def _starts(sweep: SweepConfig, arms: dict[str, Arm]) -> Iterator[str]:
    """Yield why the sweep could not start: its data, or a network of an arm."""
    data = _data(sweep.dataset)
    if isinstance(data, str):
        yield f"data: {data}"
        return
    for arm in arms.values():
        for student in arm.students:
            wanted: Values = {"student.architecture": student} if len(arm.students) > 1 else {}
            config = arm.config(existing(arm.parameters, flatten(arm.base), wanted))
            yield from _network(config.student, config.neuron, data)
            if config.train.batch_size > len(data.train):
                yield f"training: a batch of {config.train.batch_size} is more than the {len(data.train)} images"
        for teacher in arm.teachers:
            yield from _network(NetworkConfig(architecture=teacher), NeuronConfig(kind="relu"), data)


def _network(network: NetworkConfig, neuron: NeuronConfig, data: TrainingData) -> Iterator[str]:
    """Yield why a network cannot be built, without its weights."""
    try:
        with torch.device("meta"):
            build(network, neuron, data.shape, len(data.classes))
    except UserError as error:
        yield f"network: {error}"
