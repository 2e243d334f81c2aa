"""Passwords and tokens in addresses of databases and servers: masked in everything that people get to read."""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, unquote_plus

MASK = "***"
_USER = re.compile(r"//\S*@")
_VALUE = re.compile(r"(?P<key>[\w.%+-]+)=(?P<value>[^\s&]+)")
_SECRET_KEY = re.compile(
    r"password|passwd|passphrase|pwd|token|secret|credential|(api|access|private)[_-]?key|^(sig|signature|auth|pass)$"
)
_PIECE = 2
"""Characters from which a part of a password is masked: libraries split it where it has an unquoted ``@`` or ``/``."""


def masked(text: str, *addresses: str | None) -> str:
    """Return a text without the credentials of the addresses in it.

    Masked are user name and password in front of an ``@``, and the values of query parameters such as ``password``,
    ``sslpassword`` and ``token``, percent-encoded or not. A space ends an address.

    Args:
        text: any text, as an error message.
        addresses: whose credentials are masked wherever the text has them, in each of their forms.
    """
    secrets = {secret for address in addresses if address for secret in _secrets(address)}
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return _VALUE.sub(_masked_value, _USER.sub(f"//{MASK}@", text))


def without_credentials(address: str) -> str:
    """Return an HTTP address without user name and password: a link to follow."""
    return _USER.sub("//", address)


def _masked_value(match: re.Match[str]) -> str:
    return f"{match['key']}={MASK}" if _is_secret(match["key"]) else match[0]


def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(unquote_plus(key).lower()) is not None


def _secrets(address: str) -> Iterator[str]:
    """Yield every form of every secret of an address: as it is written, decoded, encoded, and the parts of it."""
    _, slashes, rest = address.partition("//")
    user, at, _ = rest.rpartition("@")
    found = [user.partition(":")[2]] if slashes and at else []
    found += [match["value"] for match in _VALUE.finditer(address) if _is_secret(match["key"])]
    for secret in filter(None, found):
        pieces = [piece for piece in re.split(r"[@/:?#\s]", secret) if len(piece) >= _PIECE]
        for form in (secret, *pieces):
            yield from {form, unquote(form), unquote_plus(form), quote(unquote(form), safe="")}
