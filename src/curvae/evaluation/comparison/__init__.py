"""Runs beside each other, and beside models in closed form.

Begin with ``compare``: which runs may be compared (``compatibility``), differences paired by example with p-values
(``multiple_testing``), as ``tables`` and a ``figure``, with their baselines (``compared_baselines``). ``latent_curve``
compares runs that differ in the number of latents.
"""
