"""The one error of this package."""


class DataError(ValueError):
    """Data that cannot be used as given: one line saying what, what was expected, what came, and how to mend it."""
