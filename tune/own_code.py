"""The user's own code that a sweep uses: which packages, what identifies them, and which folders are shipped."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from supersnn import plugins
from tune.versions import LIBRARIES, PACKAGES


@dataclass(frozen=True)
class OwnCode:
    """The packages of a sweep's import paths and plugins.

    Attributes:
        identities: by package (`supersnn.plugins.identities`).
        folders: of the packages that a cluster's nodes are sent.
    """

    identities: Mapping[str, str]
    folders: tuple[Path, ...] = ()


NO_OWN_CODE = OwnCode({})


def own_code(entries: Iterable[str], paths: Iterable[str]) -> OwnCode:
    """Return the packages of plugins, and of import paths into other libraries than those that are compared anyway."""
    entries = list(entries)
    named = [name for plugin in plugins.resolve(entries) for name in plugin.packages]
    imported = [path.partition(":")[0].partition(".")[0] for path in paths]
    packages = dict.fromkeys((*named, *(name for name in imported if name not in (*LIBRARIES, *PACKAGES))))
    return OwnCode(plugins.identities(packages), tuple(plugins.shipped(entries)))
