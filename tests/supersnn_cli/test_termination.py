"""SIGTERM at moments at which an exception would be lost, or leave a lock behind."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from supersnn_cli.termination import Termination

MODULE = """
import os, signal
os.kill(os.getpid(), signal.SIGTERM)
loaded = True
"""


def test_an_import_ends_first(termination: Termination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "terminated_while_imported.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        import_and_work()
    assert sys.modules["terminated_while_imported"].loaded
    assert termination.exit_code(130) == 143


def import_and_work() -> None:
    __import__("terminated_while_imported")
    time.sleep(10)


class Ignores:
    """Gets the signal where Python ignores exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def drop_and_work() -> None:
    dropped = Ignores()
    del dropped
    time.sleep(10)


@pytest.mark.usefixtures("termination")
def test_what_python_ignores_is_raised_again() -> None:
    with pytest.raises(KeyboardInterrupt):
        drop_and_work()


@pytest.mark.usefixtures("termination")
def test_a_second_signal_is_ignored() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
