"""What kind of file system a path lies on; SQLite is refused on those that several machines share."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from supersnn.errors import UserError

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "9p", "beegfs", "gpfs"}
)
"""File systems on which SQLite's locks or its shared memory cannot be relied on; every `fuse.` one is another."""

MOUNTS = Path("/proc/mounts")


def kind_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the kind of the file system that a path lies on, or would lie on; None where the system does not tell."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    place = path.expanduser().resolve()
    points = {Path(point.replace("\\040", " ")): kind for _, point, kind, *_ in lines}
    return next((points[parent] for parent in (place, *place.parents) if parent in points), None)


def refuse_shared_sqlite(databases: Mapping[str, str], mounts: Path = MOUNTS) -> None:
    """Refuse an SQLite database on a network file system. `databases` are addresses by the setting that moves them.

    Raises:
        UserError: one lies on such a file system.
    """
    for setting, url in databases.items():
        path = _sqlite_path(url)
        kind = kind_of(path, mounts) if path else None
        if kind is not None and (kind in NETWORK or kind.startswith("fuse.")):
            raise UserError(
                f"{path} lies on a network file system ({kind}), where SQLite's locks do not hold and a database may "
                f"be damaged: set {setting} to a PostgreSQL server, or to sqlite:///… on a disk of the driver's machine"
            )


def _sqlite_path(url: str) -> Path | None:
    """The file of an SQLite address; None for another database, or one in memory."""
    scheme, slashes, rest = url.partition(":///")
    name = unquote(rest.partition("?")[0])
    if not slashes or not scheme.startswith("sqlite") or name in ("", ":memory:"):
        return None
    return Path(name)
