"""Addresses of SQLite files, and their file systems by the mount table: network file systems are refused."""

from collections.abc import Mapping
from pathlib import Path

import sqlalchemy
import sqlalchemy.exc

from supersnn.errors import UserError

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


def sqlite_url(path: Path) -> str:
    """Return the address of an SQLite file, whatever characters its path has."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite address; None for another database, one in memory, or what is no address."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(parsed.database)
