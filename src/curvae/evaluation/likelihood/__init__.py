"""log p(x) of each example, with errors and diagnostics.

Begin with ``scores``, the one pass over a table, and ``importance``, log p(x) from weighted draws; ``likelihood`` makes
means of them and says how they are told. ``proposal`` is where draws come from, ``estimation`` how many there are,
``proposal_selection`` which of them is believed, ``diagnostics`` what weights say; ``annealing`` (its metric is
``annealing_metric``) and ``bdmc`` are second opinions without a proposal. ``baselines`` are models that have log p(x)
in closed form.
"""
