"""The ways to train.

Begin at ``fit``, which makes a run and carries it out. ``warm_start`` begins at another run's weights, ``train_on``
goes on with a finished run, ``restarts`` keeps the best of several seeds, ``refit`` trains a finished run's recipe
on all its rows; ``keep_trained`` trains nothing, and leaves the folder of a system that was trained elsewhere.
"""
