"""Checks of parts of one's own, for tests: each names what a part must do, and what this one does.

    from supersnn.testing import assert_part

    def test_my_network() -> None:
        assert_part("mypkg.nets:Mine", "student")

`supersnn check-part` prints the same findings. The contracts are in `supersnn.testing.contracts`.
"""

from supersnn.testing.checks import CHECKS, Finding, assert_part, check_part, kind_of

__all__ = ["CHECKS", "Finding", "assert_part", "check_part", "kind_of"]
