"""The one error of this floor that means: the user can mend this."""


class UserError(Exception):
    """A mistake that the user can mend: its text names the place, the value and what was expected."""
