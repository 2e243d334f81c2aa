"""Ray where it is started for one sweep, for real: what its workers find in their environment."""

import os
from pathlib import Path

import pytest
import ray

from supersnn.errors import ExternalError, UserError
from tune.description.sweep import ResourcesConfig
from tune.execution import cluster
from tune.execution.cluster import LOCAL_SETTINGS, LONGEST_SOCKET, SOCKET, RayExecutor, require_short_paths
from tune.execution.executor import PAGES
from tune.notices import ignore
from tune.store import Store


def environment(_: int) -> dict[str, str]:
    return dict(os.environ)


def test_workers_have_our_environment_and_the_driver_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = LOCAL_SETTINGS
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv("SUPERSNN_DATA", os.path.relpath(tmp_path))
    monkeypatch.setenv(first, "1")  # the user's own wish
    before = dict(os.environ)
    executor = RayExecutor(
        resources=ResourcesConfig(),
        max_failures=0,
        scratch=tmp_path,
        run="run",
        storage=Store.at(tmp_path).storage,
        check_file="",
        notify=ignore,
    )
    try:
        ours = {*LOCAL_SETTINGS, "GLIBC_TUNABLES"}
        assert {name: value for name, value in os.environ.items() if name in ours} == {first: "1"}
        assert os.environ["SUPERSNN_DATA"] == before["SUPERSNN_DATA"]
        ((_, seen),) = executor.tasks(environment, [0])
        assert not isinstance(seen, Exception)
        assert seen["GLIBC_TUNABLES"] == PAGES
        assert seen["SUPERSNN_DATA"] == str(tmp_path.resolve())
        assert seen[first] == "1" != LOCAL_SETTINGS[first]
        assert {name: seen[name] for name in others} == {name: LOCAL_SETTINGS[name] for name in others}
    finally:
        executor.close()


def test_a_folder_in_which_sockets_have_too_long_paths_is_refused_before_ray_starts() -> None:
    longest = "/" + "x" * (LONGEST_SOCKET - len(SOCKET) - 1)
    require_short_paths("TMPDIR", longest)
    with pytest.raises(UserError, match=r"TMPDIR=/x+: Ray's sockets would have paths of more than 107 bytes"):
        require_short_paths("TMPDIR", longest + "x")


def test_a_ray_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("the raylet has died\nwith a long story")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ExternalError, match="does not start on this machine: the raylet has died with a long story;"):
        cluster._start()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 98)))
    with pytest.raises(UserError, match="RAY_TMPDIR="):
        cluster._start()
