"""Is the posterior right on data that the model itself made?

Begin with ``calibration``: ranks of the true latents among draws, and coverage of intervals; ``figure`` draws them.
"""
