"""Runs beside each other, and beside models in closed form.

Begin with ``compare``: which runs may be compared (``compatibility``), differences paired by example with p-values
(``multiple_testing``), as ``tables`` and a ``figure``. ``baselines`` are those of one evaluation,
``compared_baselines`` those of several runs; ``latent_curve`` compares runs that differ in the number of latents.
"""
