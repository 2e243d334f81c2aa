"""The file system of a path by the mount table; SQLite databases are refused on network file systems."""

from collections.abc import Mapping
from pathlib import Path

from supersnn.errors import UserError
from tune.sqlite import sqlite_path

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "9p", "beegfs", "gpfs"}
)
"""File systems on which SQLite's locks or shared memory are not reliable; so are all that begin with `fuse.`."""

MOUNTS = Path("/proc/mounts")


def file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system of a path, which need not exist; None without a mount table."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    resolved = path.expanduser().resolve()
    types = {Path(point.replace("\\040", " ")): type_ for _, point, type_, *_ in lines}
    return next((types[parent] for parent in (resolved, *resolved.parents) if parent in types), None)


def refuse_shared_sqlite(databases: Mapping[str, str], mounts: Path = MOUNTS) -> None:
    """Refuse SQLite databases on network file systems; `databases` are URLs by the setting that changes them.

    Raises:
        UserError: a database is on such a file system.
    """
    for setting, url in databases.items():
        path = sqlite_path(url)
        type_ = file_system(path, mounts) if path else None
        if type_ is not None and (type_ in NETWORK or type_.startswith("fuse.")):
            raise UserError(
                f"{path} is on a network file system ({type_}), where SQLite's locks are not reliable and the database "
                f"may be damaged; set {setting} to a PostgreSQL server, or to sqlite:///… on a local disk of the driver"
            )
