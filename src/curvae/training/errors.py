"""The one error of this package, and the kinds of it that are told apart."""


class RunError(ValueError):
    """A run that cannot start, go on or be read: one line saying what, what was expected, what came, how to mend it."""


class FinishedError(RunError):
    """The run that was asked for is finished already, with the same configuration and data."""


class DivergedError(RunError):
    """Training whose numbers are no longer finite, or that has trained nothing."""
