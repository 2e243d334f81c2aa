"""The state of a training: its network, its optimiser, its steps and epochs, and the snapshots of all that.

Everything random is a pure function of (seed, epoch, index): the initial weights depend on the seed, the order of the
images on (seed, epoch), the augmented views (`supersnn.views`) on (`dataset.split_seed`, view, index).
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.augment import Normaliser
from supersnn.averaging import WeightAverage
from supersnn.checkpoint import STUDENT, under_prefix, with_prefix
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.device_steps import DeviceSteps
from supersnn.digests import digest
from supersnn.epoch_report import SATURATED, SILENT, EpochReport, Snapshot
from supersnn.errors import UserError, prefix_errors
from supersnn.evaluation import Evaluator
from supersnn.generators import Generators
from supersnn.layer_names import LAST
from supersnn.losses import FeatureLoss, TeacherOutputs, total
from supersnn.measurement import measure
from supersnn.networks.base import Output
from supersnn.networks.build import build
from supersnn.networks.stages import Taps
from supersnn.optimisation import numbers_of, optimiser, restore_numbers, restored, state_of
from supersnn.own_losses import OwnTerms
from supersnn.own_metrics import own_metrics
from supersnn.randomness import key, permutation
from supersnn.records.metrics import SPIKE_RATE
from supersnn.relation_loss import RelationLoss
from supersnn.shards import Shard
from supersnn.step_values import AVERAGE, RATE, RELATION, StepValues, step_values, value_tensors
from supersnn.streams import Turn, to_device, to_host
from supersnn.teacher_outputs import TeacherSource
from supersnn.views import augmented, targets, view_of

_PRECISION = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_INITIAL, _PROJECTION, _ORDER, _NOISE, _TERMS = 1, 2, 3, 4, 5  # streams of the training's seed
_CHUNK = 2**23  # pixel values that are augmented at once; it does not change the result


class Training:
    """The state of a training, and its epochs.

    Args:
        config: of the training.
        data: its images.
        teacher_source: the teacher's outputs, if it has one.
        resume: a snapshot of the same training to continue from.
        shard: the device, and the part of each batch that this process takes.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        teacher_source: TeacherSource | None,
        resume: Snapshot | None,
        shard: Shard,
    ) -> None:
        torch.set_num_threads(config.train.threads)
        self.config, self.data, self.shard, self.device = config, data, shard, shard.device
        self.teacher_source = teacher_source if config.loss.terms_on() else None
        self.epoch = self.begun = 0
        self.ended: str | None = None
        self.history: list[dict[str, float]] = []
        self.batch = min(config.train.batch_size, len(data.train))
        self.steps = len(data.train) // self.batch
        self.layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
        self.values: StepValues = {}
        self.turn = Turn(self.device, config.train.tf32, config.train.deterministic)
        with self.turn:
            self._build()
            self._prepare(resume)

    def _build(self) -> None:
        """Build the network, in memory of the turn's stream, which alone writes to it."""
        config, data = self.config, self.data
        with prefix_errors("student.architecture"), Generators(key(config.seed, _INITIAL), self.device):
            self.network = build(config.student, config.neuron, data.shape, len(data.classes))
        self.shard.convert_batch_norm(self.network)
        self.network.to(self.device).to(memory_format=self.layout)
        self.average = WeightAverage(self.network) if config.optimizer.ema else None

    def _prepare(self, resume: Snapshot | None) -> None:
        """Make what the steps need beside the network."""
        config, data = self.config, self.data
        self.normalise = Normaliser(data.mean, data.std, self.device)
        self.projection = self._projection() if config.loss.feature.weight > 0 else None
        self.relation = RelationLoss(config.loss.relation)
        self.taps = self._taps()
        with Generators(key(config.seed, _TERMS), self.device):
            self.own = OwnTerms(config.loss, with_teacher=self.teacher_source is not None)
        self.own.modules.to(self.device)
        self.parameters = [
            *self.network.parameters(),
            *(self.projection.parameters() if self.projection else ()),
            *self.own.modules.parameters(),
        ]
        on_device = value_tensors(config, self.device) if self._steps_alike() else None
        self.optimizer = optimiser(config.optimizer, self.parameters, None if on_device is None else on_device[RATE])
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.train.precision == "fp16")
        self.graph_wanted = on_device is not None and config.train.graph == "auto"
        self.device_steps: DeviceSteps | None = None
        if on_device is not None:
            self.values, batches = on_device, self._chunk_batches()
            self.device_steps = DeviceSteps(self._update, on_device, self.batch, batches, self.graph_wanted)
        self.evaluated = self.network if self.average is None else self.average.network
        self.evaluator = Evaluator(self.evaluated, data.mean, data.std, graph=self.graph_wanted)
        self.sums: dict[str, Tensor] = {}
        if resume is not None:
            self.restore(*resume)

    def _steps_alike(self) -> bool:
        """Return whether every step is the same work on a GPU alone, so that the host need not take part.

        A queue of past batches grows in the first steps, and code of one's own may do anything.
        """
        relation = self.config.loss.relation
        queued = relation.weight > 0 and relation.queue > 0
        return _steps_on_device(self.shard) and not queued and not self.config.import_paths()

    def release(self) -> None:
        """Break the reference cycle with what runs the steps, so that memory on the device is free at once.

        A training that is closed in mid-epoch has steps that are launched and not done, which use that memory.
        """
        self.turn.end()
        self.device_steps = None

    def _chunk_batches(self) -> int:
        """Return how many of this shard's batches are augmented at once."""
        values = self.batch // self.shard.count * self.data.train.pixels[0].numel()
        return min(self.steps, max(1, _CHUNK // values))

    def _projection(self) -> FeatureLoss:
        """Return the feature term's projection onto as many channels as the teacher's maps have."""
        assert self.teacher_source is not None
        position = torch.arange(1)
        maps = self.teacher_source(position, 0, self._images(position, view=0)).features
        if maps is None:
            raise ValueError("loss.feature.weight is above zero, but teacher_source returns no features")
        seed = key(self.config.seed, _PROJECTION)
        return FeatureLoss(self.network.channels, maps.shape[1], seed, self.config.loss.feature.pool).to(self.device)

    def _taps(self) -> Taps | None:
        """Return access to the maps inside the network, None if relations are compared on its last spikes only."""
        config = self.config.loss.relation
        currents = config.signal == "currents"
        layers = [layer for layer in self.relation.layers if currents or layer != LAST]
        if config.weight == 0 or not layers:
            return None
        if not hasattr(self.network, "body"):
            raise UserError(
                f"loss.relation.layers: {config.layers!r}: expected 'last' and no currents with the network "
                f"{self.config.student.architecture!r}, which has no stages"
            )
        return Taps(self.network, self._images(torch.arange(1), view=0), layers, currents)

    def epoch_in_parts(self) -> Iterator[None]:
        """Train for an epoch, evaluate on the validation images, and append the metrics to the history."""
        started = time.perf_counter()
        yield from self.steps_in_parts()
        with self.turn:
            metrics = self._losses()
            self.ended = "finished" if self.epoch == self.config.train.epochs else None
            if all(map(math.isfinite, metrics.values())):
                metrics |= self._validate()
        if not all(map(math.isfinite, metrics.values())):
            self.ended = "failed:nan"
        metrics["time/epoch_s"] = time.perf_counter() - started
        self.history.append({name: value for name, value in metrics.items() if math.isfinite(value)})

    def steps_in_parts(self) -> Iterator[None]:
        """Take the steps of the next epoch; the losses stay on the device."""
        order = permutation(len(self.data.train), self.config.seed, _ORDER, self.epoch)[: self.steps * self.batch]
        order = self.shard.part(order.view(self.steps, -1), 1).flatten()
        noise = Generators(key(self.config.seed, _NOISE, self.epoch), self.device)
        run = self._steps_from_host if self.device_steps is None else self._steps_on_device
        size, step = self.batch // self.shard.count, self.epoch * self.steps
        self.sums, self.begun = {}, self.epoch + 1
        self.network.train()
        for chunk in order.split(self._chunk_batches() * size):
            with self.turn, noise:
                run(chunk, step)
            step += len(chunk) // size
            yield
        with self.turn:
            done = self.turn.mark()
        while not done():
            yield
        self.epoch += 1

    def _steps_from_host(self, chunk: Tensor, step: int) -> None:
        """Take a step for each batch of a chunk of rows, the batches cut from its images one by one."""
        view, size = self._view(), self.batch // self.shard.count
        parts = (chunk, self._images(chunk, view), self._targets(chunk, view))
        for position, images, labels in zip(*(part.split(size) for part in parts), strict=True):
            outputs = self.teacher_source(position, view, images) if self.teacher_source else None
            self.values = values = self._values(step)
            for group in self.optimizer.param_groups:
                group["lr"] = values[RATE]
            for name, loss in self._update(images, labels, outputs).items():
                self.sums[name] = self.sums[name] + loss if name in self.sums else loss
            step += 1

    def _steps_on_device(self, chunk: Tensor, step: int) -> None:
        """Take the steps of a chunk of rows without waiting for the device."""
        assert self.device_steps is not None
        view = self._view()
        images = self._images(chunk, view)
        outputs = self.teacher_source(chunk, view, images) if self.teacher_source else None
        steps = [self._values(step + number) for number in range(len(chunk) // self.batch)]
        values = {name: torch.tensor([one[name] for one in steps], dtype=torch.float64) for name in steps[0]}
        on_device = {name: to_device(coming, self.device) for name, coming in values.items()}
        self.device_steps.run(images, self._targets(chunk, view), outputs, on_device)

    def _view(self) -> int:
        return view_of(self.epoch, self.config.dataset.augment)

    def _values(self, step: int) -> dict[str, float]:
        return step_values(self.config, step, self.steps * self.config.train.epochs)

    def _losses(self) -> dict[str, float]:
        """Return the mean of each loss term over the epoch's steps, synchronising with the device once."""
        if self.device_steps is not None:
            means = self.device_steps.means(self.steps)
        else:
            summed = torch.stack(list(self.sums.values())) / self.steps
            means = dict(zip(self.sums, summed.tolist(), strict=True))
        metrics = {"train/loss": means.pop("total")} | {f"loss/{term}": mean for term, mean in means.items()}
        for term in self.config.loss.terms_on():
            metrics.setdefault(f"loss/{term}_weighted", self.config.loss.weight(term) * means[term])
        return metrics

    def _targets(self, position: Tensor, view: int) -> Tensor:
        return targets(self.data.train, position, view, self.config, len(self.data.classes))

    def _images(self, position: Tensor, view: int) -> Tensor:
        pixels = augmented(self.data.train, position, view, self.config)
        return self.normalise(pixels).contiguous(memory_format=self.layout)

    def _update(self, images: Tensor, labels: Tensor, outputs: TeacherOutputs | None) -> dict[str, Tensor]:
        """Update the weights once; return the detached loss terms."""
        loop = self.config.train
        with torch.autocast(self.device.type, _PRECISION[loop.precision], enabled=loop.precision != "fp32"):
            output = self.network(images)
        output = Output(*(part.float() for part in output))
        maps = {layer: part.float() for layer, part in self.taps.take().items()} if self.taps else None
        terms = total(
            self.config.loss,
            output,
            labels,
            outputs,
            self.projection,
            self.shard,
            self.relation,
            maps,
            relation_weight=self.values.get(RELATION),
            own=self.own.terms,
        )
        self.optimizer.zero_grad()
        self.scaler.scale(terms["total"]).backward()
        self.shard.sum_gradients(self.parameters)
        if self.config.optimizer.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, self.values[AVERAGE])
        return {name: term.detach() for name, term in terms.items()}

    def _validate(self) -> dict[str, float]:
        """Return the validation metrics; a network that is silent or saturated has failed."""
        metrics = measure(self.evaluated, self.data.validation, self.data, self.evaluator).metrics("val")
        metrics |= own_metrics(self.config.train.metrics, self.evaluated, self.data)
        rate = metrics.get(SPIKE_RATE.key)
        if rate is not None and rate < SILENT:
            self.ended = "failed:silent"
        elif rate is not None and rate > SATURATED:
            self.ended = "failed:saturated"
        return metrics

    def report(self) -> EpochReport:
        """Return the report of the last epoch."""
        epoch = self.epoch

        def snapshot() -> Snapshot:
            if self.begun != epoch:
                raise RuntimeError(
                    f"the training has continued since epoch {epoch}: take its snapshot before the next one"
                )
            return self.snapshot()

        return EpochReport(epoch, dict(self.history[-1]), self.ended, snapshot)

    def snapshot(self) -> Snapshot:
        """Return the state, copied to the CPU."""
        tensors = with_prefix(STUDENT, (self.average or self).network.state_dict())
        if self.average is not None:
            tensors |= with_prefix("latest.", self.network.state_dict())
        if self.projection is not None:
            tensors |= with_prefix("projection.", self.projection.state_dict())
        tensors |= with_prefix("relation.", self.relation.state())
        tensors |= with_prefix("own.", self.own.modules.state_dict())
        for number, parameter in enumerate(self.parameters):
            tensors |= with_prefix(f"optimizer.{number}.", state_of(self.optimizer, parameter))
        meta = {
            "training": identity(self.config, self.data),
            "split": self.data.fingerprint,
            "epoch": self.epoch,
            "ended": self.ended,
            "history": [dict(metrics) for metrics in self.history],
            "scaler": self.scaler.state_dict(),
            "optimizer": numbers_of(self.optimizer, self.parameters),
        }
        with self.turn:
            return to_host(tensors), meta

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Load the state of a snapshot."""
        (self.average or self).network.load_state_dict(under_prefix(STUDENT, tensors))
        if self.average is not None:
            self.network.load_state_dict(under_prefix("latest.", tensors))
        if self.projection is not None:
            self.projection.load_state_dict(under_prefix("projection.", tensors))
        self.relation.load(under_prefix("relation.", tensors), self.device)
        self.own.modules.load_state_dict(under_prefix("own.", tensors))
        for number, parameter in enumerate(self.parameters):
            for name, value in under_prefix(f"optimizer.{number}.", tensors).items():
                self.optimizer.state[parameter][name] = restored(name, value, parameter)
        restore_numbers(self.optimizer, self.parameters, meta.get("optimizer", {}))
        if meta["scaler"]:
            self.scaler.load_state_dict(meta["scaler"])
        self.epoch = self.begun = meta["epoch"]
        self.ended, self.history = meta["ended"], list(meta["history"])


def _steps_on_device(shard: Shard) -> bool:
    """Return whether the steps run on the device alone: on one GPU; several exchange values through the host."""
    return shard.device.type == "cuda" and shard.count == 1


def identity(config: TrainConfig, data: TrainingData) -> str:
    """Return a digest of a training and its images."""
    return digest(config, data.fingerprint)
