"""Failures of work in a worker by their kind: the machine's, which another one may not have, or the work's own.

Trials and tasks (final runs, teachers, caches) are classified alike: from the exception where there is one
(`failure_of`), from the text of its traceback where only that is left (`failure_in`), and `lost_worker` where a process
or its node is gone. Nothing here imports Ray or torch: their errors are known by name.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from supersnn.errors import ExternalError, described, shortened

Kind = Literal["own", "node", "holder", "worker", "memory", "gpu", "import", "disk", "io", "stall"]
"""What has failed: the work itself; its node was lost; the process that it shares with other trials was lost; its
process died, or was killed; the memory of the machine or of the GPU was not enough; CUDA; an import; a full disk; other
input and output; no report within the deadline."""

KIND_TEXTS: Mapping[str, str] = {
    "own": "an error of its own",
    "node": "node lost",
    "holder": "process of packed trials lost",
    "worker": "process died",
    "memory": "out of memory",
    "gpu": "GPU error",
    "import": "import error",
    "disk": "disk full",
    "io": "I/O error",
    "stall": "no report",
}
"""Each kind for people."""

_NAMES: dict[str, Kind] = {
    "HolderLost": "holder",
    "NodeDiedError": "node",
    "NodePreemptedError": "node",
    "LocalRayletDiedError": "node",
    "ActorDiedError": "worker",
    "ActorUnavailableError": "node",  # so a lost node shows itself, some seconds before Ray knows that it is lost
    "ActorUnschedulableError": "worker",
    "RayActorError": "worker",
    "WorkerCrashedError": "worker",
    "OwnerDiedError": "worker",
    "ObjectLostError": "worker",
    "ObjectFetchTimedOutError": "worker",
    "ReferenceCountingAssertionError": "worker",
    "RpcError": "worker",
    "OutOfMemoryError": "memory",  # of torch, of torch.cuda, and of Ray
    "MemoryError": "memory",
    "AcceleratorError": "gpu",
    "ImportError": "import",
    "ModuleNotFoundError": "import",
    "RuntimeEnvSetupError": "import",
    "SafetensorError": "io",
    "DamagedFile": "io",
    "ExternalError": "io",
    "OutOfDiskError": "disk",
    "OSError": "io",
    "BotoCoreError": "io",
    "ClientError": "io",
    "DistNetworkError": "io",
    "DistStoreError": "io",
}
"""The kinds of errors by the name of their class, or of one that it is derived from."""
for _error in (*OSError.__subclasses__(), *ConnectionError.__subclasses__()):
    if _error.__module__ == "builtins":
        _NAMES[_error.__name__] = "io"

_FATAL = "device-side assert triggered"
"""An assertion of a kernel, mostly an index out of range: the training's own error, after which no CUDA call works."""
_TEXTS: tuple[tuple[Kind, str], ...] = (
    ("own", _FATAL),
    ("disk", r"No space left on device|Disk quota exceeded|database or disk is full"),
    ("memory", r"CUDA out of memory|DefaultCPUAllocator: can't allocate memory|CUDA_ERROR_OUT_OF_MEMORY"),
    (
        "gpu",
        r"CUDA error|CUDA driver|CUDA_ERROR|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|NCCL error|Triton Error \[CUDA\]",
    ),
    ("gpu", r"CUDA unknown error|cudaGetDeviceCount|No CUDA GPUs are available|Found no NVIDIA driver"),
    ("gpu", r"HIP error|Failed to find C compiler"),
    (
        "node",
        r"node (has died|was (terminated|preempted|drained)|has been marked dead)|[Tt]he actor \w+ is unavailable",
    ),
    ("memory", r"low on memory"),
    ("import", r"Failed to set up runtime environment"),
)
"""The kinds of errors by what their text contains, however their class is called; the first that fits."""

_ERROR = re.compile(r"^(?!Traceback\b)(?P<name>[A-Za-z_][\w.]*)(: .*)?$")
_GUESSES = " Some common causes include"
"""Begins what Ray guesses about any process that has died."""
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_USER, _STALE = "UserError", "StaleDriverError"
"""The first says what a person should mend, such as a file that is missing, unless the machine has failed in an own
part; the second ends the driver."""


class SystemFailure(Exception):
    """A failure on its way from a worker to the driver, after which the process is not used again.

    It is the machine's, or one of the work's own that has made the process unusable.
    """

    def __init__(self, kind: Kind, text: str, node: str, part: str | None = None) -> None:
        """Say what has failed, in one line, on the node with this id; `part` as in `Failure`."""
        super().__init__(kind, text, node, part)
        self.kind, self.text, self.node, self.part = kind, text, node, part

    def __str__(self) -> str:
        return self.text

    @property
    def failure(self) -> "Failure":
        """The failed attempt."""
        return Failure(self.kind, self.text, self.part)


@dataclass(frozen=True)
class Failure:
    """One failed attempt.

    Attributes:
        kind: what has failed.
        text: one line for people.
        part: the part of the node that has failed, where it is known: its GPUs, or a process that trials share.
        fatal: whether the process can do no further work, though the error is the work's own.
    """

    kind: Kind
    text: str
    part: str | None = None
    fatal: bool = False

    @property
    def of_system(self) -> bool:
        """Whether the machine has failed: the work is retried elsewhere, and the attempt counts nowhere."""
        return self.kind != "own"

    @property
    def ends_process(self) -> bool:
        """Whether the process is not used again."""
        return self.of_system or self.fatal

    def raised_on(self, node: str, gpus: str | None) -> SystemFailure:
        """Return the error that tells the driver, from a process on a node, which has these GPUs (None for none)."""
        if self.kind != "gpu" or gpus is None:
            return SystemFailure(self.kind, self.text, node, self.part)
        return SystemFailure(self.kind, f"GPU {gpus}: {self.text}", node, gpus)


class FailedForGood(ExternalError):
    """A task of another process that is not tried again.

    Attributes:
        reason: one line.
        trace: the traceback of its last attempt there; empty where the process was lost.
    """

    def __init__(self, label: str, failure: Failure, trace: str = "") -> None:
        """Name the task, for people, and what it has failed of last."""
        known = "" if failure.kind == "own" else f"{KIND_TEXTS[failure.kind]}: "
        self.reason, self.trace = f"{known}{failure.text}", trace
        super().__init__(f"{label} failed: {self.reason} (the same command tries again what is missing)")


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an exception is, of the work's code or of Ray: the first cause that is known decides."""
    line, by_user = described(_innermost(error), 300), False
    for one in _chain(error):
        names = [cls.__name__ for cls in type(one).__mro__]
        if _STALE in names:
            break
        if _USER in names:
            by_user = True
            continue
        if isinstance(one, OSError) and one.errno in _NO_SPACE:
            return Failure("disk", line)
        if (kind := _kind(str(one), names)) is not None and not (by_user and kind == "io"):
            return Failure(kind, line, getattr(one, "holder", None), kind == "own")
    return Failure("own", line)


def failure_in(traceback: str) -> Failure:
    """Return the failure that a traceback ends with, as `failure_of`; an empty text is left by a lost process."""
    if not traceback.strip():
        return lost_worker("the worker died")
    causes = traceback.strip().split(_CAUSE)
    causes = [*causes[:-1], causes[-1].rpartition(_CONTEXT)[2]]  # what happened meanwhile is no cause
    errors = [_last_error(text.strip().splitlines()) for text in reversed(causes)]
    line, by_user = shortened(errors[0][1], 300), False
    for name, text in errors:
        if name == _STALE:
            break
        if name == _USER:
            by_user = True
        elif (kind := _kind(text, [name])) is not None and not (by_user and kind == "io"):
            return Failure(kind, line, fatal=kind == "own")
    return Failure("own", line)


def lost_worker(text: str, node_lost: bool = False) -> Failure:
    """Return the failure of a process that is gone without an exception of its own.

    Args:
        text: what is known about it; of several lines the one that tells the kind is kept, else the last.
        node_lost: whether its node is gone as well, for instance a preempted one.
    """
    known = text.partition(_GUESSES)[0].strip()
    kind, lines = _by_text(known), known.splitlines() or [""]
    line = shortened(next((line for line in lines if kind is not None and _by_text(line) == kind), lines[-1]), 300)
    if node_lost:
        return Failure("node", line)
    return Failure(kind if kind in ("node", "memory", "import") else "worker", line)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error of the work and what it was raised from."""
    seen: list[BaseException] = []
    following: BaseException | None = _innermost(error)
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__


def _innermost(error: BaseException) -> BaseException:
    """Return the error of the work: Ray's error of a task has it as `cause`, and the whole traceback as its text."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _last_error(lines: list[str]) -> tuple[str, str]:
    """Return the name and the whole text of the error that a traceback ends with; the text may have several lines."""
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    for number in range(frames[-1] + 1 if frames else 0, len(lines)):
        if (match := _ERROR.match(lines[number])) is not None:
            name = match["name"].rpartition(".")[2]
            return name, name + " ".join(lines[number:])[len(match["name"]) :]
    return "", lines[-1] if lines else ""


def _kind(text: str, names: list[str]) -> Kind | None:
    """Return the kind of an error by its text, or by the names of its class; a lost holder repeats another's text."""
    return "holder" if "HolderLost" in names else _by_text(text) or _by_name(names)


def _by_text(text: str) -> Kind | None:
    return next((kind for kind, pattern in _TEXTS if re.search(pattern, text)), None)


def _by_name(names: list[str]) -> Kind | None:
    return next((_NAMES[name] for name in names if name in _NAMES), None)
