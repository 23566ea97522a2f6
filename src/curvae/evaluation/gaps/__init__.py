"""The inference gap, log p(x) - ELBO, and its parts.

Begin with ``gaps``, which measures it on a run; ``variational_families`` has the posteriors that are sought for each
example, ``results`` the immutable values that come out.
"""
