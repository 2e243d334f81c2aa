"""Requests as files in a sweep's folder."""

import json
from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.requests import Request, delete, pending, submit
from tune.store import SweepFolder


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    (tmp_path / "sweep").mkdir()
    return SweepFolder(tmp_path / "sweep")


def test_requests_are_read_in_the_order_in_which_they_were_made(folder: SweepFolder) -> None:
    assert pending(folder) == []
    later = Request("pause", "direct", asked=1_800_000_000.5)
    first = Request("enqueue", "direct", values={"optimizer.lr": 0.1}, asked=1_700_000_000.25)
    paths = [submit(folder, request) for request in (later, first)]
    assert [request for _, request in pending(folder)] == [first, later]
    assert len({path.name for path in paths}) == 2
    assert first.text() == "enqueue direct optimizer.lr=0.1"
    assert Request("retry", "direct", trial=3).text() == "retry direct/3"
    delete(paths[1])
    delete(paths[1])
    assert [request for _, request in pending(folder)] == [later]


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", '{"kind": "fly"}', "null", '{"kind": "pause", "target": 3}', '{"kind": "pause", "more": 1}', ""],
)
def test_a_damaged_request_is_none(folder: SweepFolder, damage: str) -> None:
    path = submit(folder, Request("pause"))
    path.write_text(damage, encoding="utf-8")
    assert pending(folder) == [(path, None)]


def test_files_of_others_are_left_alone(folder: SweepFolder) -> None:
    path = submit(folder, Request("pause"))
    (folder.requests / "notes.json").write_text("{}", encoding="utf-8")
    (folder.requests / f".{path.name}.partial").write_text("{", encoding="utf-8")
    assert len(pending(folder)) == 1
    copied = json.loads(path.read_text(encoding="utf-8"))
    path.with_name(f"1700000000000000-{'0' * 32}.json").write_text(json.dumps(copied), encoding="utf-8")
    assert sorted(request is None for _, request in pending(folder)) == [False, True]  # its id is another's


def test_a_store_that_cannot_be_written_to_is_one_line(folder: SweepFolder) -> None:
    folder.requests.write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match="the request cannot be written"):
        submit(folder, Request("pause"))
