"""Ray where it is started for one sweep, for real: what its workers find in their environment."""

import os
from pathlib import Path

import pytest

from tune.description.sweep import ResourcesConfig
from tune.execution.cluster import ALONE, RayExecutor
from tune.execution.executor import PAGES
from tune.store import Store


def environment(_: int) -> dict[str, str]:
    return dict(os.environ)


def test_workers_have_our_environment_and_the_driver_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = ALONE
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv("SUPERSNN_DATA", os.path.relpath(tmp_path))
    monkeypatch.setenv(first, "1")  # the user's own wish
    before = dict(os.environ)
    executor = RayExecutor(ResourcesConfig(), 0, tmp_path, "run", Store.at(tmp_path).storage, "", lambda *_: None)
    try:
        assert {name: value for name, value in os.environ.items() if name in {*ALONE, "GLIBC_TUNABLES"}} == {first: "1"}
        assert os.environ["SUPERSNN_DATA"] == before["SUPERSNN_DATA"]
        ((_, seen),) = executor.tasks(environment, [0])
        assert not isinstance(seen, Exception)
        assert seen["GLIBC_TUNABLES"] == PAGES
        assert seen["SUPERSNN_DATA"] == str(tmp_path.resolve())
        assert seen[first] == "1" != ALONE[first]
        assert {name: seen[name] for name in others} == {name: ALONE[name] for name in others}
    finally:
        executor.close()
