"""Training itself.

Begin at ``stages``, which runs the stages in turn; ``lightning_module`` is one of them, ``loader`` its batches,
``checkpoint`` where training stands and ``resume`` how it goes on. Nothing outside of this folder imports Lightning.
"""
