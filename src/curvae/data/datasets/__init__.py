"""Known data sets by name.

Begin at ``known_sets``, which lists and opens them and splits what is not split officially. ``sources`` says what a
set is before that; ``mnist``, ``omniglot`` and ``cifar_svhn`` know the files of each, ``fetch`` where the files are.
"""
