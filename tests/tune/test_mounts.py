"""The file system of a path, and the refusal of SQLite on network file systems."""

from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.mounts import file_system, refuse_shared_sqlite

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /shared nfs4 rw,vers=4.2 0 0
/dev/vdb /shared/local xfs rw 0 0
s3fs /mnt/a\\040bucket fuse.s3fs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/me/store", "ext4"),
        ("/shared/store/optuna.db", "nfs4"),
        ("/shared/local/optuna.db", "xfs"),
        ("/sharedness", "ext4"),
        ("/mnt/a bucket/x", "fuse.s3fs"),
    ],
)
def test_file_system_is_that_of_the_innermost_mount(mounts: Path, path: str, expected: str) -> None:
    assert file_system(Path(path), mounts) == expected


def test_without_a_mount_table_nothing_is_refused(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "nothing") is None
    refuse_shared_sqlite({"X": "sqlite:////shared/optuna.db"}, tmp_path / "nothing")


@pytest.mark.parametrize("url", ["sqlite:////shared/optuna.db", "sqlite:////mnt/a%20bucket/mlflow.db?timeout=5"])
def test_sqlite_on_a_network_file_system_is_refused(mounts: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"network file system.*SETTING"):
        refuse_shared_sqlite({"SETTING": url}, mounts)


@pytest.mark.parametrize(
    "url",
    ["sqlite:////shared/local/optuna.db", "sqlite:////home/optuna.db", "sqlite:///:memory:", "postgresql:///shared/x"],
)
def test_other_databases_are_accepted(mounts: Path, url: str) -> None:
    refuse_shared_sqlite({"SETTING": url}, mounts)
