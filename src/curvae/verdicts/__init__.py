"""What a run is worth, in words: from its learning curve, from its baselines and from its evaluation.

``learning`` looks at how training went, ``evaluation`` at what came out; ``conclusion`` is the one sentence.
"""

from curvae.renamed import renamed
from curvae.verdicts.evaluation import baseline_verdicts, bound_verdicts, conclusion, evaluation_verdicts
from curvae.verdicts.learning import last_stage, training_verdicts
from curvae.verdicts.verdict import Verdict

__all__ = [
    "Verdict",
    "baseline_verdicts",
    "bound_verdicts",
    "conclusion",
    "evaluation_verdicts",
    "last_stage",
    "training_verdicts",
]

_BEFORE = {
    "of_baselines": "curvae.verdicts.baseline_verdicts",
    "of_bound": "curvae.verdicts.bound_verdicts",
    "of_evaluation": "curvae.verdicts.evaluation_verdicts",
    "of_training": "curvae.verdicts.training_verdicts",
}
__getattr__ = renamed(__name__, _BEFORE)
