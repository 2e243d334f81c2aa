"""The steps of a training on a GPU, none of which waits for the host or lets the host wait.

Images, labels, a teacher's outputs and the numbers of some steps (`supersnn.step_values`) are put into buffers at fixed
addresses. A step reads the batch that a counter on the device points at, updates the weights, adds the loss terms up,
and moves the counter on. So every step is the same work, which a CUDA graph captures once and replays with one launch.
Without a graph, on any device, the same code runs step by step.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields

import torch
from torch import Tensor

from supersnn.cuda_graph import captured
from supersnn.losses import TeacherOutputs

Update = Callable[[Tensor, Tensor, TeacherOutputs | None], Mapping[str, Tensor]]
"""Updates the weights with a batch, its labels and its teacher outputs; returns the detached loss terms."""

UNCAPTURED = 3
"""Steps before the capture: libraries choose algorithms and allocate what they keep in the first ones."""


_MAPPINGS = ("vectors", "layers")  # fields of `TeacherOutputs` with several tensors


class DeviceSteps:
    """Runs batches of one training.

    Args:
        update: takes a step; all tensors that it reads and writes stay at their addresses.
        values: the numbers of a step by name, 0-dimensional tensors that `update` reads.
        batch: the number of images of a step.
        batches: the most batches that `run` is given at once.
        graph: capture the step in a CUDA graph, if it can be.
    """

    def __init__(self, update: Update, values: Mapping[str, Tensor], batch: int, batches: int, graph: bool) -> None:
        self._update, self._values, self._batch, self._batches = update, dict(values), batch, batches
        (device,) = {value.device for value in values.values()}
        self._wanted = graph and device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._taken = 0
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._coming = {name: torch.zeros(batches, dtype=value.dtype, device=device) for name, value in values.items()}
        self._inputs: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}

    @property
    def captured(self) -> bool:
        """Whether steps are replayed from a graph."""
        return self._graph is not None

    def run(self, images: Tensor, labels: Tensor, outputs: TeacherOutputs | None, values: Mapping[str, Tensor]) -> None:
        """Take a step for each batch.

        Args:
            images: normalised, float32 [n·B, C, H, W] for n batches, in the network's memory format.
            labels: int64 [n·B].
            outputs: of the teacher for these images.
            values: the numbers of each step, [n] by name, on the host (pinned) or the device.
        """
        count = len(labels) // self._batch
        for name, inputs in _flat(images, labels, outputs).items():
            if name not in self._inputs:
                self._inputs[name] = _buffer(inputs, self._batch * self._batches)
            self._inputs[name][: len(inputs)].copy_(inputs, non_blocking=True)
        for name, coming in self._coming.items():
            coming[:count].copy_(values[name], non_blocking=True)
        self._cursor.zero_()
        for _ in range(count):
            self._step()

    def means(self, steps: int) -> dict[str, float]:
        """Return the mean of each loss term over the steps since the last call; this waits for the device."""
        found = (torch.stack(list(self._sums.values())) / steps).tolist()
        for total in self._sums.values():
            total.zero_()
        return dict(zip(self._sums, found, strict=True))

    def _step(self) -> None:
        if self._wanted and self._taken >= UNCAPTURED:
            self._capture()
        self._taken += 1
        if self._graph is not None:
            self._graph.replay()
        else:
            self._work()

    def _capture(self) -> None:
        """Capture the step; where that is not possible, go on without, and say so."""
        self._wanted = False
        self._graph = captured(self._work, "training steps")

    def _work(self) -> None:
        """Take the step that the cursor points at: the work of every step, on the device alone."""
        batch = {name: self._batch_of(values) for name, values in self._inputs.items()}
        for name, coming in self._coming.items():
            torch.index_select(coming, 0, self._cursor, out=self._values[name].view(1))
        outputs = _unflat(batch)
        for name, term in self._update(batch["images"], batch["labels"], outputs).items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(term)
            self._sums[name] += term
        self._cursor += 1

    def _batch_of(self, values: Tensor) -> Tensor:
        """Return the batch at the cursor, in the memory format of the buffer."""
        order = sorted(range(1, values.dim()), key=values.stride, reverse=True)
        rows = values.permute(0, *order)
        batch = rows.unflatten(0, (self._batches, self._batch)).index_select(0, self._cursor)[0]
        back = [0, *(1 + order.index(dim) for dim in range(1, values.dim()))]
        return batch.permute(back)


def _buffer(like: Tensor, rows: int) -> Tensor:
    """Return an uninitialised tensor with so many rows, each with the memory layout of a row of `like`."""
    one = torch.empty_like(like[:1])
    strides = (one.numel(), *one.stride()[1:])
    return torch.empty_strided((rows, *like.shape[1:]), strides, dtype=like.dtype, device=like.device)


def _flat(images: Tensor, labels: Tensor, outputs: TeacherOutputs | None) -> dict[str, Tensor]:
    """Return the tensors of some batches by name."""
    found = {"images": images, "labels": labels}
    if outputs is not None:
        found |= {f"vectors.{pool}": values for pool, values in outputs.vectors.items()}
        found |= {f"layers.{layer}.{pool}": values for (layer, pool), values in outputs.layers.items()}
        others = {name: getattr(outputs, name) for field in fields(outputs) if (name := field.name) not in _MAPPINGS}
        found |= {f"outputs.{name}": values for name, values in others.items() if values is not None}
    return found


def _unflat(batch: Mapping[str, Tensor]) -> TeacherOutputs | None:
    """Return the teacher's outputs in a batch, None where it has none."""
    vectors = {int(name.partition(".")[2]): values for name, values in batch.items() if name.startswith("vectors.")}
    others = {name.partition(".")[2]: values for name, values in batch.items() if name.startswith("outputs.")}
    layers: dict[tuple[str, int | str], Tensor] = {}
    for name, values in batch.items():
        if name.startswith("layers."):
            _, layer, pool = name.split(".")
            layers[layer, int(pool) if pool.isdigit() else pool] = values
    return TeacherOutputs(vectors, layers=layers, **others) if vectors or layers or others else None
