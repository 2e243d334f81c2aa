"""The processes of one training whose batches are cut into shards: all on one machine, one for each shard.

On a CPU they talk through gloo, on GPUs, one for each, through NCCL. The latter is written, but was not measured.
"""

import io
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from supersnn.errors import UserError
from supersnn.shards import Shard

PATIENCE = 2.0  # seconds that a helper has to end by itself
RENDEZVOUS_TIMEOUT = 60.0  # seconds in which all processes must have met; each has its work by then

Helpers = dict[Shard, tuple[Connection, SpawnProcess]]


def check_shards(count: int, batch: int, device: torch.device) -> None:
    """Refuse shards that a batch cannot be cut into, or that would not have a GPU each.

    Raises:
        UserError: how large the batch is, or how many GPUs there are.
    """
    if batch % count:
        raise UserError(f"train.shards: expected a divisor of the batch, which has {batch} images here, found {count}")
    if count > 1 and device.type == "cuda":
        seen = torch.cuda.device_count() - (device.index or 0)
        if count > seen:
            raise UserError(f"train.shards: {count} shards need a GPU each, this training sees {seen}")


@contextmanager
def process_group(
    count: int, device: torch.device, follow: Callable[..., None], arguments: Sequence[Any]
) -> Iterator[tuple[Shard, Callable[[], None]]]:
    """Start a helper for each shard but the first; yield the first shard, and a function that calls the helpers.

    A helper runs `follow(shard, calls, *arguments)`; its `calls` yields once for every call, and ends with this
    context. The arguments go to it by value, their tensors onto its own device: GPUs from `device` on, one a shard.
    Helpers die with this process, whatever ends it.

    A process can be in one group at a time. Python's `spawn` imports the main module again in each helper, so that a
    script must do its work under ``if __name__ == "__main__"``.

    Raises:
        RuntimeError: a helper failed, with its traceback, or was killed.
    """
    if count == 1:
        yield Shard(device=device), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="supersnn-") as folder:
        shards = [Shard(rank, count, _device(device, rank)) for rank in range(count)]
        meeting = Path(folder) / "meeting"
        helpers: Helpers = {}
        try:
            helpers.update((shard, _started(shard, meeting)) for shard in shards[1:])
            lines = [line for line, _ in helpers.values()]
            _hand_out(lines, follow, arguments)
            with _group(shards[0], meeting):
                try:
                    yield shards[0], lambda: _tell(lines, go_on=True)
                finally:
                    with suppress(OSError):
                        _tell(lines, go_on=False)
        except (RuntimeError, OSError, EOFError) as error:
            if faults := list(_faults(helpers)):
                raise RuntimeError("; ".join((str(error), *faults))) from error
            raise
        finally:
            for line, process in helpers.values():
                line.close()
                _end(process)


def _device(first: torch.device, rank: int) -> torch.device:
    return torch.device(first.type, (first.index or 0) + rank) if first.type == "cuda" else first


def _started(shard: Shard, meeting: Path) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_help, args=(shard, theirs, meeting), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _end(process: SpawnProcess) -> None:
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _hand_out(lines: Sequence[Connection], follow: Callable[..., None], arguments: Sequence[Any]) -> None:
    """Send the work to the helpers, and wait until each has it."""
    content = io.BytesIO()
    torch.save((follow, tuple(arguments)), content)
    for line in lines:
        line.send_bytes(content.getbuffer())
    for line in lines:
        if (told := line.recv()) is not None:
            raise RuntimeError(told)


def _tell(lines: Sequence[Connection], go_on: bool) -> None:
    for line in lines:
        line.send(go_on)


def _faults(helpers: Helpers) -> Iterator[str]:
    """What happened to helpers that are not well, in words."""
    wait([process.sentinel for _, process in helpers.values()], timeout=1.0)
    for shard, (line, process) in helpers.items():
        with suppress(EOFError, OSError):
            if line.poll() and (told := line.recv()) is not None:
                yield f"shard {shard.rank} of {shard.count} failed:\n{told}"
        if process.exitcode:
            yield f"the process of shard {shard.rank} of {shard.count} ended with exit code {process.exitcode}"


@contextmanager
def _group(shard: Shard, meeting: Path) -> Iterator[None]:
    """Be in torch's default process group, whose members meet by a file."""
    nccl, excepthook = shard.device.type == "cuda", sys.excepthook  # each group lays another hook upon it
    if nccl:
        torch.cuda.set_device(shard.device)
    _meet(shard, meeting.parent)
    distributed.init_process_group(
        "nccl" if nccl else "gloo",
        init_method=meeting.as_uri(),
        rank=shard.rank,
        world_size=shard.count,
        device_id=shard.device if nccl else None,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
        sys.excepthook = excepthook


def _meet(shard: Shard, folder: Path) -> None:
    """Wait until all processes are here, because torch would wait half an hour for one that is lost."""
    here = [folder / f"here-{rank}" for rank in range(shard.count)]
    here[shard.rank].touch()
    deadline = time.monotonic() + RENDEZVOUS_TIMEOUT
    while not all(path.exists() for path in here):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"shard {shard.rank}: not all {shard.count} shards met within {RENDEZVOUS_TIMEOUT:.0f} s"
            )
        time.sleep(0.01)


def _help(shard: Shard, line: Connection, meeting: Path) -> None:
    """Be a helper: take the work, follow until the first process has no more calls, tell what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        content = io.BytesIO(line.recv_bytes())
        follow, arguments = torch.load(content, map_location=shard.device, weights_only=False)
        line.send(None)
        with _group(shard, meeting):
            follow(shard, _calls(line), *arguments)
    except Exception:
        with suppress(OSError):
            line.send(traceback.format_exc())


def _calls(line: Connection) -> Iterator[None]:
    with suppress(EOFError):
        while line.recv():
            yield


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
