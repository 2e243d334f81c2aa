"""On which file systems SQLite is refused."""

from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.mounts import kind_of, refuse_shared_sqlite

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
    ("path", "kind"),
    [
        ("/home/me/store", "ext4"),
        ("/shared/store/optuna.db", "nfs4"),
        ("/shared/local/optuna.db", "xfs"),
        ("/sharedness", "ext4"),
        ("/mnt/a bucket/x", "fuse.s3fs"),
    ],
)
def test_the_innermost_mount_tells(mounts: Path, path: str, kind: str) -> None:
    assert kind_of(Path(path), mounts) == kind


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert kind_of(tmp_path, tmp_path / "nothing") is None
    refuse_shared_sqlite({"X": "sqlite:////shared/optuna.db"}, tmp_path / "nothing")


@pytest.mark.parametrize("url", ["sqlite:////shared/optuna.db", "sqlite:////mnt/a%20bucket/mlflow.db?timeout=5"])
def test_sqlite_is_refused_where_machines_share(mounts: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"network file system.*PLACE"):
        refuse_shared_sqlite({"PLACE": url}, mounts)


@pytest.mark.parametrize(
    "url",
    ["sqlite:////shared/local/optuna.db", "sqlite:////home/optuna.db", "sqlite:///:memory:", "postgresql:///shared/x"],
)
def test_everything_else_is_let_through(mounts: Path, url: str) -> None:
    refuse_shared_sqlite({"PLACE": url}, mounts)
