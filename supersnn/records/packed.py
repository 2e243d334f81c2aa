"""Which images a network classified correctly, as a short text: their number, and a bit each in base64."""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence


def packed(right: Sequence[bool]) -> str:
    """Return the text of a vector of truth values, as ``359:...``; the first image is the highest bit."""
    bits = "".join("1" if one else "0" for one in right)
    size = (len(bits) + 7) // 8
    return f"{len(bits)}:{b64encode(int(bits.ljust(8 * size, '0') or '0', 2).to_bytes(size, 'big')).decode()}"


def bits_of(text: str) -> tuple[int, bytes]:
    """Return the number of images in a text, and their bits in bytes.

    Raises:
        ValueError: it is no such text.
    """
    count, _, data = text.partition(":")
    try:
        bits = b64decode(data, validate=True)
    except Error as error:
        raise ValueError(f"expected base64: {error}") from error
    if not count.isdecimal() or len(bits) != (int(count) + 7) // 8:
        raise ValueError(f"expected the bits of {count[:20]} images, found {8 * len(bits)} bits")
    return int(count), bits
