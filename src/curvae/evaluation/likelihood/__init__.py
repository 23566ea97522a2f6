"""log p(x) of each datum, with errors and diagnostics.

Begin with ``scores``, the one pass over a table, and ``importance``, log p(x) from weighted draws. ``proposal`` is
where draws come from, ``proposal_selection`` which of them is believed, ``adaptive_samples`` how many there are,
``diagnostics`` what weights say; ``annealing`` (``annealed`` is its metric) and ``bdmc`` are second
opinions without a proposal.
"""
