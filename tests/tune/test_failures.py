"""The kind of a failure, by its exception, by its traceback, and where a process is gone."""

import errno
import pickle
import traceback

import pytest
import ray.exceptions
import torch
from safetensors import SafetensorError

from supersnn.errors import ExternalError, UserError
from supersnn.files import DamagedFile
from tune.execution.failures import Failure, Kind, failure_in, failure_of, lost_worker

ERRORS: list[tuple[BaseException, Kind]] = [
    (ValueError("weights: expected 3"), "own"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "own"),
    (UserError("teacher.weights: no file"), "own"),
    (torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be", 710), "own"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
    (MemoryError(), "memory"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"), "memory"),
    (RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"), "gpu"),
    (torch.AcceleratorError("CUDA error: unspecified launch failure", 1), "gpu"),
    (RuntimeError("No CUDA GPUs are available"), "gpu"),
    (RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"), "gpu"),
    (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"), "gpu"),
    (RuntimeError("Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions"), "gpu"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "gpu"),
    (ModuleNotFoundError("No module named 'ownparts'"), "import"),
    (ImportError("libcudart.so.13: cannot open shared object file"), "import"),
    (OSError(errno.EIO, "Input/output error", "/data/images"), "io"),
    (FileNotFoundError(2, "No such file or directory", "/data/images"), "io"),
    (ConnectionResetError(104, "Connection reset by peer"), "io"),
    (TimeoutError("timed out"), "io"),
    (DamagedFile("teachers/x: the content differs"), "io"),
    (ExternalError("the bucket does not answer"), "io"),
    (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "disk"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/x"), "disk"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk"),
    (SafetensorError("Error while deserializing header"), "io"),
]


def raised(error: BaseException, cause: BaseException | None = None, handled: bool = False) -> tuple[Failure, Failure]:
    """Return the failure of a raised error, by itself and by its traceback."""
    try:
        if handled and cause is not None:
            try:
                raise cause
            except BaseException:
                raise error  # noqa: B904 - what was handled is no cause
        raise error from cause
    except BaseException as caught:
        return failure_of(caught), failure_in(traceback.format_exc())


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda value: type(value).__name__)
def test_of_an_exception_and_of_its_traceback(error: BaseException, kind: Kind) -> None:
    by_error, by_text = raised(error)
    assert (by_error.kind, by_text.kind) == (kind, kind)
    assert by_error.of_system == by_text.of_system == (kind != "own")


def test_the_line_for_people_is_type_and_text() -> None:
    expected = Failure("own", "ValueError: two lines")
    assert raised(ValueError("two\nlines")) == (expected, expected)
    assert raised(KeyError()) == (Failure("own", "KeyError"), Failure("own", "KeyError"))
    qualified = Failure("memory", "OutOfMemoryError: CUDA out of memory")
    assert raised(torch.OutOfMemoryError("CUDA out of memory")) == (qualified, qualified)


def test_what_an_error_was_raised_from_decides_but_not_what_was_handled_meanwhile() -> None:
    expected = Failure("io", "ValueError: no images")
    assert raised(ValueError("no images"), OSError(5, "Input/output error")) == (expected, expected)
    own = Failure("own", "ValueError: no images")
    assert raised(ValueError("no images"), OSError(5, "Input/output error"), handled=True) == (own, own)


def test_a_mistake_of_the_user_is_no_failure_of_the_machine() -> None:
    failures = raised(UserError("dataset.name: /data/x is missing"), FileNotFoundError(2, "No such file"))
    assert [failure.kind for failure in failures] == ["own", "own"]
    in_own_part = UserError("student.architecture: 'mine:net' raises RuntimeError: CUDA error: misaligned address")
    failures = raised(in_own_part, RuntimeError("CUDA error: misaligned address"))
    assert [failure.kind for failure in failures] == ["gpu", "gpu"]


def test_the_error_of_a_task_on_ray_is_the_error_that_it_has_wrapped() -> None:
    text = "ray::train()\nOSError: [Errno 5] Input/output error\n\nduring which\nValueError: 3"
    wrapped = ray.exceptions.RayTaskError("train", text, ValueError("3"))
    assert failure_of(wrapped) == Failure("own", "ValueError: 3")
    assert failure_of(ray.exceptions.RayTaskError("train", text, MemoryError("4"))).kind == "memory"


def test_an_assertion_of_a_kernel_is_the_works_own_error_and_ends_its_process() -> None:
    for failure in raised(RuntimeError("CUDA error: device-side assert triggered")):
        assert (failure.kind, failure.of_system, failure.ends_process) == ("own", False, True)
    own, sick = raised(ValueError("3"))[0], raised(MemoryError())[0]
    assert (own.ends_process, sick.ends_process) == (False, True)


def test_a_failure_on_its_way_to_the_driver_stays_what_it_is() -> None:
    error = Failure("gpu", "CUDA error").raised_on("n", "3")
    told = pickle.loads(pickle.dumps(error))
    assert (str(told), told.node, told.failure) == ("GPU 3: CUDA error", "n", Failure("gpu", "GPU 3: CUDA error", "3"))
    assert Failure("io", "no file").raised_on("n", "3").failure == Failure("io", "no file")


def test_lost_processes_and_nodes() -> None:
    assert failure_of(ray.exceptions.WorkerCrashedError()).kind == "worker"
    assert failure_of(ray.exceptions.ActorDiedError()).kind == "worker"
    assert failure_of(ray.exceptions.NodeDiedError("x")).kind == "node"
    unavailable = ray.exceptions.ActorUnavailableError("RpcError: RPC error: Socket closed rpc_code: 14.", b"1" * 16)
    assert failure_of(unavailable).kind == lost_worker(str(unavailable)).kind == "node"
    assert failure_of(
        ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory")
    ).kind == ("memory")
    assert failure_in("").kind == "worker"
    guesses = (
        "Worker exit detail: End of file. Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert lost_worker(guesses) == Failure("worker", "Worker exit detail: End of file.")
    assert lost_worker("SIGKILL", node_lost=True).kind == "node"
    assert lost_worker("The actor died because its node has died. Node Id: 1").kind == "node"
    assert lost_worker("the worker was killed due to the node running low on memory").kind == "memory"
    several = "Task was killed due to the node running low on memory.\nTop memory users: ...\nSee the documentation."
    assert lost_worker(several) == Failure("memory", "Task was killed due to the node running low on memory.")
    assert lost_worker("The actor died.\n\tpid: 3\nIts process was killed.") == Failure(
        "worker", "Its process was killed."
    )
