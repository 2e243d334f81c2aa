"""The parts of the benchmark: each measures some rows, and compares them with the project's targets."""

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.packed import rates
from benchmarks.gpu.setting import (
    NotCapturedError,
    Setting,
    described,
    release,
    replace_neurons,
    seconds_a_step,
    steps_of,
)
from supersnn.config import NeuronConfig
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.neurons import LIF
from supersnn.numerics import numerics
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import TeacherSource, needed_outputs
from supersnn.teachers import TeacherStore
from supersnn.training import train, train_in_parts

IMAGES = 50_000
PEERS = ("snntorch", "spikingjelly")
NEURON = NeuronConfig(threshold=1.0, decay=0.5, reset="hard", surrogate="atan", width=0.5)


@dataclass
class Part:
    """What was measured: rows by name, and ratios with their targets, ``<= 6`` or ``>= 1.5``."""

    rows: dict[str, float] = field(default_factory=dict)
    targets: dict[str, tuple[float, str]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the part as plain values; each target with whether it was reached."""
        targets = {
            name: {"value": value, "target": target, "reached": reached(value, target)}
            for name, (value, target) in self.targets.items()
        }
        return {**asdict(self), "targets": targets}


def reached(value: float, target: str) -> bool:
    """Return whether a value is within a target such as ``<= 6``."""
    kind, bound = target.split()
    return value <= float(bound) if kind == "<=" else value >= float(bound)


def ceilings(setting: Setting) -> Part:
    """Measure what bounds every training: the copying of memory, and products of matrices in bf16."""
    numbers = 2**16 if setting.small else 2**30
    source = torch.randn(numbers, device=setting.device)
    target = torch.empty_like(source)
    copy = _fastest(lambda: target.copy_(source), setting)
    side = 128 if setting.small else 8192
    a, b = (torch.randn(side, side, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    product = _fastest(lambda: a @ b, setting)
    rows = {
        "copy, TB/s read and written": 8 * numbers / copy / 1e12,
        "bf16 product, TFLOP/s": 2 * side**3 / product / 1e12,
    }
    return Part(rows)


def epoch(setting: Setting) -> Part:
    """Measure an epoch of ResNet-19, and its step with other libraries' neurons and with ReLU.

    Raises:
        NotCapturedError: a step that is no peer's cannot be captured in a graph; a peer's that cannot is named.
    """
    part = Part()
    config = described(_large(setting), train__precision=setting.precision, train__batch_size=_batch(setting))
    reports = train(config, setting.data(IMAGES), device=setting.device)
    next(reports)
    second = next(reports)
    part.rows["epoch of ResNet-19 with its evaluation, s"] = second.metrics["time/epoch_s"]
    del reports
    release(setting)
    sides = dict(_sides(setting))
    for name, (made, graph) in sides.items():
        try:
            step = _timed(part, name, made, graph, setting)
        except NotCapturedError as error:
            if not name.startswith(PEERS):
                raise
            part.notes[f"step of ResNet-19, {name}"] = f"not measured: {error}"
        else:
            part.rows[f"step of ResNet-19, {name}, ms"] = 1000 * step
    steps = IMAGES // _batch(setting)
    ours = part.rows["step of ResNet-19, ours, graph, ms"] / 1000
    part.rows["epoch of ResNet-19, its steps alone, s"] = ours * steps
    part.targets["epoch of ResNet-19, s"] = (part.rows["epoch of ResNet-19 with its evaluation, s"], "<= 6")
    peers = [name for name in sides if name.startswith(PEERS)]
    for name in peers:
        if (taken := part.rows.get(f"step of ResNet-19, {name}, ms")) is not None:
            mine = "ours, graph" if name.endswith(", graph") else "ours, no graph"
            ratio = taken / part.rows[f"step of ResNet-19, {mine}, ms"]
            part.targets[f"{name}, time over ours"] = (ratio, ">= 1.5")
    if not peers:
        part.notes["peers"] = "neither spikingjelly nor snntorch is here; a plain loop over time is measured instead"
        for way in ("graph", "no graph"):
            loop = part.rows[f"step of ResNet-19, loop over time, {way}, ms"]
            part.notes[f"loop over time, {way}, time over ours"] = (
                loop / part.rows[f"step of ResNet-19, ours, {way}, ms"]
            )
    relu = part.rows["step of ResNet-19, ReLU, graph, ms"] / 1000
    part.targets["ResNet-19, step over ReLU's on the folded batch"] = (ours / relu, "<= 1.15")
    return part


def graphs(setting: Setting) -> Part:
    """Measure steps of small students with a graph and without, and with ReLU."""
    part = Part()
    for architecture in ("resnet8", "resnet20"):
        found = {}
        for graph in (True, False):
            made = build_student(architecture, setting)
            found[graph] = seconds_a_step(steps_of(made, setting, "fp32", 8 if setting.small else 64, graph), setting)
            part.rows[f"step of {architecture}, {'graph' if graph else 'no graph'}, ms"] = 1000 * found[graph]
        relu = build_student(architecture, setting, relu=True)
        floor = seconds_a_step(steps_of(relu, setting, "fp32", 8 if setting.small else 64, True), setting)
        part.rows[f"step of {architecture}, ReLU, graph, ms"] = 1000 * floor
        part.targets[f"{architecture}, no graph over graph"] = (found[False] / found[True], ">= 2")
        part.targets[f"{architecture}, step over ReLU's"] = (found[True] / floor, "<= 1.15")
        release(setting)
    return part


def packing(setting: Setting) -> Part:
    """Measure how many epochs an hour one card trains: one training at a time, packed, and in fractions."""
    part = Part()
    for architecture in ("resnet8",) if setting.small else ("resnet8", "resnet20"):
        found = rates(architecture, setting)
        part.rows |= {f"epochs an hour, {architecture}, {name}": 3600 * rate for name, rate in found.items()}
        packed = max(rate for name, rate in found.items() if name.startswith("packed"))
        part.targets[f"{architecture}, packed over one at a time without a graph"] = (
            packed / found["one, no graph"],
            ">= 6",
        )
        fractions = [rate for name, rate in found.items() if "fractions" in name]
        if fractions:
            part.targets[f"{architecture}, packed over fractions"] = (packed / max(fractions), ">= 1.5")
        release(setting)
    return part


def relation(setting: Setting) -> Part:
    """Measure an epoch of a student with the relational loss, its cache warm, against one without a teacher."""
    part, data = Part(), setting.data(IMAGES // 2)
    taught = {
        "teacher__name": "resnet20",
        "teacher__epochs": 1,
        "teacher__lr": 0.01,
        "loss__relation__weight": 10.0,
        "train__batch_size": 16 if setting.small else 64,
    }
    with tempfile.TemporaryDirectory() as folder:
        config = described("resnet8", **taught)
        teacher = TeacherStore(Path(folder) / "teachers").get(config, data, setting.device)
        started = time.perf_counter()
        cache = TeacherCache.open(Path(folder) / "banks", teacher, data, config, needed_outputs(config.loss))
        part.rows["teacher cache of ResNet-20, s a view"] = (time.perf_counter() - started) / 2
        for architecture in ("resnet8", "resnet20"):
            direct = described(architecture, train__batch_size=taught["train__batch_size"])
            alone = _epochs(direct, data, None, setting)
            with_relation = _epochs(described(architecture, **taught), data, cache, setting)
            part.rows[f"epoch of {architecture}, direct, s"] = alone
            part.rows[f"epoch of {architecture}, relation, s"] = with_relation
            part.targets[f"{architecture}, relation over direct"] = (with_relation / alone, "<= 1.08")
    release(setting)
    return part


def profile(setting: Setting) -> Part:
    """List the kernels that a step of ResNet-19 spends most of its time in."""
    run = steps_of(build_student(_large(setting), setting), setting, setting.precision, _batch(setting), graph=False)
    cuda = setting.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as found:
        run(4)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: -float(getattr(event, key)))
    total = sum(float(getattr(event, key)) for event in events) or 1.0
    shares = {event.key[:80]: f"{100 * float(getattr(event, key)) / total:.1f} %" for event in events[:14]}
    return Part(notes={"share of a step of ResNet-19 by kernel": shares})


PARTS: dict[str, Callable[[Setting], Part]] = {
    "ceilings": ceilings,
    "graphs": graphs,
    "epoch": epoch,
    "relation": relation,
    "packing": packing,
    "profile": profile,
}


def build_student(architecture: str, setting: Setting, relu: bool = False) -> Network:
    """Return a student of two steps with new weights; with `relu` an artificial one on the same folded batch."""
    torch.manual_seed(0)
    config = described(architecture)
    network = build(config.student, NEURON, ImageShape(3, 8 if setting.small else 32), 10)
    if relu:
        replace_neurons(network, LIF, Folded)
    return network


class Folded(nn.Module):
    """ReLU instead of neurons, on the same folded batch."""

    def forward(self, current: torch.Tensor, constant: bool = False) -> torch.Tensor:
        """Return currents [T·B, ...] above zero, or T times those of [B, ...] that are `constant` over time."""
        return torch.cat([torch.relu(current)] * 2) if constant else torch.relu_(current)


class Loop(nn.Module):
    """The same neurons as a loop over time of torch's operations, with autograd through each."""

    def forward(self, current: torch.Tensor, constant: bool = False) -> torch.Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], or [B, ...] that are `constant` over time."""
        v, spikes = torch.zeros(()), list[torch.Tensor]()
        for step in [current] * 2 if constant else current.chunk(2):
            u = NEURON.decay * v + step if spikes else step
            spike = _Spike.apply(u - NEURON.threshold)
            v = u * (1 - spike.detach())
            spikes.append(spike)
        return torch.cat(spikes)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Return the step function of x."""
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, of_spikes: torch.Tensor) -> torch.Tensor:
        """Return the arctangent surrogate's gradient."""
        (x,) = ctx.saved_tensors
        scaled = (torch.pi / (2 * NEURON.width)) * x
        return of_spikes * (0.5 / NEURON.width) / (1 + scaled * scaled)


def _sides(setting: Setting) -> Iterator[tuple[str, tuple[Callable[[], Network], bool]]]:
    """Yield the networks of a step's comparison by name, and whether they are captured."""

    def of(made: Callable[[], nn.Module]) -> Callable[[], Network]:
        def network() -> Network:
            built = build_student(_large(setting), setting)
            replace_neurons(built, LIF, made)
            return built

        return network

    for graph in (True, False):
        suffix = "graph" if graph else "no graph"
        yield f"ours, {suffix}", (lambda: build_student(_large(setting), setting), graph)
        yield f"ReLU, {suffix}", (lambda: build_student(_large(setting), setting, relu=True), graph)
        yield f"loop over time, {suffix}", (of(Loop), graph)
        if importlib.util.find_spec("snntorch"):
            from benchmarks.step import Snntorch

            yield f"snntorch, {suffix}", (of(Snntorch), graph)
        if importlib.util.find_spec("spikingjelly"):
            from benchmarks.step import Spikingjelly

            yield f"spikingjelly, {suffix}", (of(Spikingjelly), graph)


def _timed(part: Part, name: str, made: Callable[[], Network], graph: bool, setting: Setting) -> float:
    release(setting)
    with numerics(setting.device, tf32=True):
        seconds = seconds_a_step(steps_of(made(), setting, setting.precision, _batch(setting), graph), setting, 3)
    if setting.device.type == "cuda":
        part.rows[f"peak memory of ResNet-19, {name}, GB"] = torch.cuda.max_memory_allocated() / 1e9
    return seconds


def _epochs(config: Any, data: Any, source: TeacherSource | None, setting: Setting) -> float:
    """Return the seconds of the fastest of some epochs, after one for each view, without the evaluation's share.

    A training's last turn before a report is when its steps are done, and the evaluation is not begun.
    """
    found: list[float] = []
    began = done = time.perf_counter()
    for report in train_in_parts(config, data, source, device=setting.device):
        if report is None:
            done = time.perf_counter()
            continue
        found.append(done - began)
        if len(found) == (3 if setting.small else 6):
            break
        began = time.perf_counter()
    return min(found[2:])


def _fastest(work: Callable[[], object], setting: Setting) -> float:
    work()
    setting.synchronise()
    found = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        setting.synchronise()
        found.append(time.perf_counter() - started)
    return min(found)


def _large(setting: Setting) -> str:
    return "resnet8" if setting.small else "resnet19"


def _batch(setting: Setting) -> int:
    return 16 if setting.small else 128
