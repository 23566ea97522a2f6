"""Training itself: ``stages`` runs the stages in turn, ``lightning_module`` is one of them.

Nothing outside of this folder imports Lightning.
"""
