"""What is settled before the first step.

Begin at ``settings``: what a run was asked to do. ``recommended`` fills in what was not said, ``length`` divides it
among the stages, ``devices`` finds the machine's, ``monitoring`` says who looks on; ``network_checks`` tries the
networks on two rows.
"""
