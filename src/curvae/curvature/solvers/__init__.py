"""Searches for the mode.

Begin with ``solver``: the contract, the loop, and Newton's method with quasi-Newton steps between (``bfgs``).
``mode_search`` has what a search says of itself, ``line_search`` how long its steps are, ``final_step`` the
differentiated step that it ends with; ``compiled_newton`` is both in C. Others: ``conjugate_gradient``, ``gradient``,
``levenberg_marquardt``, and ``majorized``, which wraps one of them.
"""
