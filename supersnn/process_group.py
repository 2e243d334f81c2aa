"""Process group of a training whose batches are split into shards: one process per shard, all on one machine.

Processes communicate through gloo on CPUs, and through NCCL on GPUs, one GPU each. NCCL was not benchmarked.
"""

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
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from supersnn import plugins
from supersnn.errors import UserError
from supersnn.shards import Shard
from supersnn.shared_tensors import share

EXIT_TIMEOUT = 2.0  # seconds until a worker that does not exit is killed
RENDEZVOUS_TIMEOUT = (
    60.0  # seconds until all processes must have reached the rendezvous, after they received their work
)

NCCL_TIMEOUT = timedelta(minutes=3)
"""Until an exchange between GPUs has failed; gloo notices a lost process by itself."""

Workers = dict[Shard, tuple[Connection, SpawnProcess]]


def check_shards(count: int, batch: int, device: torch.device) -> None:
    """Check that a batch can be split into shards, and that each has a GPU of its own where they run on GPUs.

    Raises:
        UserError: the text has the size of the batch, or the number of GPUs.
    """
    if batch % count:
        raise UserError(f"train.shards: expected a divisor of the batch size, which is {batch} here, found {count}")
    if count > 1 and device.type == "cuda":
        gpus = torch.cuda.device_count() - (device.index or 0)
        if count > gpus:
            raise UserError(f"train.shards: {count} shards need a GPU each, this training has {gpus}")


@contextmanager
def process_group(
    count: int, device: torch.device, worker_loop: Callable[..., None], arguments: Sequence[Any]
) -> Iterator[tuple[Shard, Callable[[], None]]]:
    """Start a worker process for each shard except the first.

    A worker runs `worker_loop(shard, steps, *arguments)`; its `steps` yields once for every call of the yielded
    function, and ends with this context. The arguments are pickled but for their tensors, which the processes share in
    memory (`supersnn.shared_tensors`) or have on their GPUs, numbered from `device` on. Workers exit with this process,
    whatever ends it.

    A process can be in one group at a time. Python's `spawn` imports the main module in each worker, so that a script
    must do its work under ``if __name__ == "__main__"``.

    Yields:
        The first shard, which belongs to this process, and a function that lets the workers take the next step.

    Raises:
        RuntimeError: a worker failed (with its traceback) or was killed.
    """
    if count == 1:
        yield Shard(device=device), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="supersnn-") as folder:
        shards = [Shard(rank, count, _device(device, rank)) for rank in range(count)]
        rendezvous = Path(folder) / "rendezvous"
        workers: Workers = {}
        try:
            workers.update((shard, _start_worker(shard, rendezvous)) for shard in shards[1:])
            pipes = [pipe for pipe, _ in workers.values()]
            _send_work(pipes, worker_loop, arguments)
            with _group(shards[0], rendezvous):
                try:
                    yield shards[0], lambda: _send(pipes, proceed=True)
                finally:
                    with suppress(OSError):
                        _send(pipes, proceed=False)
        except (RuntimeError, OSError, EOFError) as error:
            if failures := list(_failures(workers)):
                raise RuntimeError("; ".join((str(error), *failures))) from error
            raise
        finally:
            for pipe, process in workers.values():
                pipe.close()
                _stop(process)


def _device(first: torch.device, rank: int) -> torch.device:
    return torch.device(first.type, (first.index or 0) + rank) if first.type == "cuda" else first


def _start_worker(shard: Shard, rendezvous: Path) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    pipe, worker_pipe = context.Pipe()
    process = context.Process(target=_work, args=(shard, worker_pipe, rendezvous), daemon=True)
    process.start()
    worker_pipe.close()
    return pipe, process


def _stop(process: SpawnProcess) -> None:
    process.join(EXIT_TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _send_work(pipes: Sequence[Connection], worker_loop: Callable[..., None], arguments: Sequence[Any]) -> None:
    """Send the work to the workers, and wait until each has received it."""
    with share((worker_loop, tuple(arguments))) as work:
        for pipe in pipes:
            pipe.send(work)
        for pipe in pipes:
            if (error_text := pipe.recv()) is not None:
                raise RuntimeError(error_text)


def _send(pipes: Sequence[Connection], proceed: bool) -> None:
    for pipe in pipes:
        pipe.send(proceed)


def _failures(workers: Workers) -> Iterator[str]:
    """Yield a description of every worker's failure."""
    ended = wait([process.sentinel for _, process in workers.values()], timeout=1.0)
    for shard, (pipe, process) in workers.items():
        if process.sentinel in ended:
            process.join(EXIT_TIMEOUT)  # its files, the sentinel among them, are closed before it can be waited for
        with suppress(EOFError, OSError):
            if pipe.poll() and (error_text := pipe.recv()) is not None:
                yield f"shard {shard.rank} of {shard.count} failed:\n{error_text}"
        if process.exitcode:
            yield f"the process of shard {shard.rank} of {shard.count} ended with exit code {process.exitcode}"


@contextmanager
def _group(shard: Shard, rendezvous: Path) -> Iterator[None]:
    """Join torch's default process group; the rendezvous is a file."""
    nccl, excepthook = shard.device.type == "cuda", sys.excepthook  # torch wraps the hook again for every group
    if nccl:
        torch.cuda.set_device(shard.device)
    _barrier(shard, rendezvous.parent)
    distributed.init_process_group(
        "nccl" if nccl else "gloo",
        init_method=rendezvous.as_uri(),
        rank=shard.rank,
        world_size=shard.count,
        device_id=shard.device if nccl else None,
        timeout=NCCL_TIMEOUT if nccl else None,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
        sys.excepthook = excepthook


def _barrier(shard: Shard, folder: Path) -> None:
    """Wait until all processes have reached the rendezvous; torch's own timeout is 30 minutes."""
    arrived = [folder / f"arrived-{rank}" for rank in range(shard.count)]
    arrived[shard.rank].touch()
    deadline = time.monotonic() + RENDEZVOUS_TIMEOUT
    while not all(path.exists() for path in arrived):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"shard {shard.rank}: not all {shard.count} shards reached the rendezvous within "
                f"{RENDEZVOUS_TIMEOUT:.0f} s"
            )
        time.sleep(0.01)


def _work(shard: Shard, pipe: Connection, rendezvous: Path) -> None:
    """Run a worker process: receive the work, run its loop until the first process ends it, send back any error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the first one decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    plugins.inherit()  # what is received may be of their classes
    try:
        worker_loop, arguments = pipe.recv().load(shard.device)
        pipe.send(None)
        with _group(shard, rendezvous):
            worker_loop(shard, _steps(pipe), *arguments)
    except Exception:
        with suppress(OSError):
            pipe.send(traceback.format_exc())


def _steps(pipe: Connection) -> Iterator[None]:
    with suppress(EOFError):
        while pipe.recv():
            yield


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
