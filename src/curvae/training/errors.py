"""The one error of this package."""


class RunError(ValueError):
    """A run that cannot start, go on or be read: one line saying what, what was expected, what came, how to mend it."""
