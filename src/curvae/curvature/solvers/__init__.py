"""Searches for the mode.

Begin with ``solver``: the contract, the loop, and Newton's method with quasi-Newton steps between (``bfgs``).
``search`` has the step rules and what a search says of itself, ``final_step`` the differentiated step that it ends
with. Others: ``conjugate_gradient``, ``gradient``, ``levenberg_marquardt``, and ``majorized``, which wraps one of them.
"""
