"""The one error of this package, and the kind of it that is no trouble."""


class RunError(ValueError):
    """A run that cannot start, go on or be read: one line saying what, what was expected, what came, how to mend it."""


class FinishedError(RunError):
    """The run that was asked for is finished already, with the same configuration and data."""
