"""What latents say about data, and the aggregate posterior against the prior.

Begin with ``information``, which needs all data at once; ``posterior_summary`` has what a batch says by itself,
``two_sample`` the tests of two sets of draws.
"""
