"""What a run is worth, in words: from its learning curve, from its baselines and from its evaluation.

``learning`` looks at how training went, ``worth`` at what came out; ``conclusion`` is the one sentence.
"""

from curvae.verdicts.learning import last_stage, of_training
from curvae.verdicts.verdict import Verdict
from curvae.verdicts.worth import conclusion, of_baselines, of_bound, of_evaluation

__all__ = ["Verdict", "conclusion", "last_stage", "of_baselines", "of_bound", "of_evaluation", "of_training"]
