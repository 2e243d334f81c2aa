"""Epochs of small students a second on one card: one training at a time, several packed in a process, and fractions."""

import multiprocessing
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.gpu.setting import Setting, described
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.training import train_in_parts

IMAGES, FRACTIONS = 20_000, 8
PACKS = (8, 16)


def rates(architecture: str, setting: Setting) -> dict[str, float]:
    """Return the epochs of 20,000 images a second, evaluation included, of each way to share the card."""
    data = setting.data(IMAGES)
    found = {
        "one, no graph": _rate([_config(architecture, setting, graph="off")], data, setting),
        "one, graph": _rate([_config(architecture, setting)], data, setting),
    }
    for count in (2,) if setting.small else PACKS:
        configs = [_config(architecture, setting, seed=seed) for seed in range(count)]
        found[f"packed {count}"] = _rate(configs, data, setting)
    del data
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    count = 2 if setting.small else FRACTIONS
    found[f"{count} fractions, no graph"] = _fractions(architecture, setting, count)
    return found


def _config(architecture: str, setting: Setting, graph: str = "auto", seed: int = 0) -> TrainConfig:
    batch = 16 if setting.small else 64
    return described(architecture, train__graph=graph, seed=seed, train__batch_size=batch)


def _rate(configs: list[TrainConfig], data: TrainingData, setting: Setting) -> float:
    """Return how many epochs a second some trainings have together, from their second epochs on.

    The time runs from the moment when the last of them has had its first epoch, in which steps are captured.
    """
    waiting = deque(
        (number, train_in_parts(config, data, device=setting.device)) for number, config in enumerate(configs)
    )
    begun: set[int] = set()
    started, epochs = 0.0, 0
    while len(begun) < len(configs) or time.perf_counter() - started < setting.seconds or not epochs:
        number, training = waiting.popleft()
        report = next(training)
        waiting.append((number, training))
        if len(begun) == len(configs):
            epochs += report is not None
        elif report is not None:
            begun.add(number)
            if len(begun) == len(configs):
                setting.synchronise()
                started = time.perf_counter()
    setting.synchronise()
    return epochs / (time.perf_counter() - started)


def _fractions(architecture: str, setting: Setting, count: int) -> float:
    """Return the epochs a second of several processes that share the card, each with one training without a graph."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for seed in range(count):
        here, there = context.Pipe()
        process = context.Process(target=_worker, args=(architecture, setting, seed, there), daemon=True)
        process.start()
        pipes.append((here, process))
    try:
        for pipe, _ in pipes:
            _received(pipe)
        for pipe, _ in pipes:
            pipe.send("go")
        return sum(float(_received(pipe)) for pipe, _ in pipes)
    finally:
        for _, process in pipes:
            process.join(10)
            process.kill()


def _received(pipe: Connection) -> Any:
    if not pipe.poll(180):
        raise RuntimeError("a process that shares the card does not answer")
    return pipe.recv()


def _worker(architecture: str, setting: Setting, seed: int, pipe: Connection) -> None:
    data = setting.data(IMAGES)
    training = train_in_parts(_config(architecture, setting, "off", seed), data, device=setting.device)
    next(report for report in training if report is not None)
    pipe.send("ready")
    pipe.recv()
    started, epochs = time.perf_counter(), 0
    while time.perf_counter() - started < setting.seconds or not epochs:
        epochs += next(training) is not None
    setting.synchronise()
    pipe.send(epochs / (time.perf_counter() - started))
