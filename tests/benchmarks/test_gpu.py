"""The benchmark for a GPU: its parts run on a CPU, at sizes that say nothing about speed."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import parts
from benchmarks.gpu.__main__ import lines, measure
from benchmarks.gpu.parts import NEURON, PEERS, Loop, build_student, reached
from benchmarks.gpu.setting import NotCapturedError, Setting, described, replace_neurons
from supersnn.neurons import LIF
from supersnn.training_state import Training

ROOT = Path(__file__).resolve().parents[2]
SMALL = Setting(torch.device("cpu"), small=True, seconds=0.1)


def test_a_part_gives_rows_targets_and_a_table() -> None:
    document = measure(SMALL, ["ceilings"])
    assert document["parts"]["ceilings"]["rows"].keys() == {"copy, TB/s read and written", "bf16 product, TFLOP/s"}
    assert all(value > 0 for value in document["parts"]["ceilings"]["rows"].values())
    assert any("bf16 product" in line for line in lines(document))


def test_a_part_that_comes_too_late_is_named() -> None:
    document = measure(SMALL, ["ceilings"], minutes=-1.0)
    assert document["parts"]["ceilings"]["error"] == "not run: the time is over"
    assert any("ceilings failed: not run" in line for line in lines(document))


def test_the_result_so_far_is_kept_before_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, str]] = []

    def keep(document: dict[str, Any]) -> None:
        kept.append({name: part.get("error", "measured") for name, part in document["parts"].items()})

    monkeypatch.setattr("benchmarks.gpu.__main__.PARTS", dict.fromkeys("ab", parts.ceilings))
    measure(SMALL, ["a", "b"], keep=keep)
    unfinished = "begun, and did not end"
    assert kept == [
        {"a": unfinished, "b": "not run: an earlier part did not end"},
        {"a": "measured", "b": unfinished},
    ]


def test_a_measurement_that_hangs_is_ended_and_leaves_what_there_is(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom benchmarks.gpu import __main__ as benchmark\n"
        "benchmark.PARTS['graphs'] = lambda setting: time.sleep(60)\n"
        "benchmark.GRACE = 1.0\n"
        f"sys.argv = ['x', '--device', 'cpu', '--small', '--minutes', '0.05', '--json', {str(tmp_path / 'found')!r}]\n"
        "sys.argv += ['--part', 'ceilings', '--part', 'graphs']\nbenchmark.main()\n"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert found.returncode == 1
    assert "Timeout (0:00:04)!" in found.stderr
    document = json.loads((tmp_path / "found").read_text(encoding="utf-8"))
    assert "rows" in document["parts"]["ceilings"]
    assert document["parts"]["graphs"]["error"] == "begun, and did not end"


def test_targets_are_bounds() -> None:
    assert reached(5.9, "<= 6")
    assert not reached(6.1, "<= 6")
    assert reached(1.5, ">= 1.5")
    assert not reached(1.4, ">= 1.5")


def test_the_plain_loop_computes_what_our_neurons_compute() -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for plain in (False, True):
        network = build_student("resnet8", SMALL)
        if plain:
            replace_neurons(network, LIF, Loop)
        network(images).logits.mean(0).logsumexp(1).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert NEURON.surrogate == "atan"
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in PEERS else real(name))


@pytest.mark.usefixtures("without_peers")
def test_an_epoch_without_the_peers_libraries_is_measured_against_a_loop() -> None:
    found = measure(SMALL, ["epoch"])["parts"]["epoch"]
    assert "error" not in found
    for name in ("ours", "ReLU", "loop over time"):
        for way in ("graph", "no graph"):
            assert found["rows"][f"step of ResNet-19, {name}, {way}, ms"] > 0
    for way in ("graph", "no graph"):
        row = "step of ResNet-19, {}, {}, ms"
        ratio = found["rows"][row.format("loop over time", way)] / found["rows"][row.format("ours", way)]
        assert found["notes"][f"loop over time, {way}, time over ours"] == ratio
    assert not any(name.startswith(PEERS) for name in found["targets"])


def test_a_peers_step_that_cannot_be_captured_is_named_and_ours_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    def sides(_setting: Setting) -> Iterator[tuple[str, tuple[Any, bool]]]:
        for name in ("ours", "ReLU", "snntorch"):
            for graph in (True, False):
                yield f"{name}, {'graph' if graph else 'no graph'}", (lambda: build_student("resnet8", SMALL), graph)

    refused = "snntorch, graph"

    def timed(_part: Any, name: str, *_rest: Any) -> float:
        if name == refused:
            raise NotCapturedError("why")
        return 2.0 if name.startswith("snntorch") else 1.0

    monkeypatch.setattr(parts, "_sides", sides)
    monkeypatch.setattr(parts, "_timed", timed)
    found = parts.epoch(SMALL)
    assert found.notes["step of ResNet-19, snntorch, graph"] == "not measured: why"
    assert found.targets["snntorch, no graph, time over ours"] == (2.0, ">= 1.5")
    assert "snntorch, graph, time over ours" not in found.targets
    refused = "ours, graph"
    with pytest.raises(NotCapturedError):
        parts.epoch(SMALL)


def test_epochs_are_timed_without_their_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("benchmarks.gpu.parts.time.perf_counter", lambda: clock[0])
    step, evaluated = Training._update, Training._validate

    def slow_step(self: Any, *given: Any) -> Any:
        clock[0] += 1.0
        return step(self, *given)

    def slow_evaluation(self: Any) -> Any:
        clock[0] += 100.0
        return evaluated(self)

    monkeypatch.setattr(Training, "_update", slow_step)
    monkeypatch.setattr(Training, "_validate", slow_evaluation)
    config = described("resnet8", train__batch_size=16)
    assert parts._epochs(config, SMALL.data(0), None, SMALL) == 128 // 16
