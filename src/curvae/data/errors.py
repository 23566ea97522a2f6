"""The one error of this package, and its two warnings."""


class DataError(ValueError):
    """Data that cannot be used as given: one line saying what, what was expected, what came, and how to mend it."""


class DataWarning(UserWarning):
    """Data of which a part was left out: one line that names it."""


class DataAdvice(DataWarning):
    """What was decided of data, or is better decided otherwise: one line with a proposal."""
