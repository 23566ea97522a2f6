"""Evaluation: what a trained system is worth, with errors and diagnostics, from its run folder."""

from curvae.evaluation.annealing import AnnealingPath, annealed
from curvae.evaluation.baseline_results import BaselineResult
from curvae.evaluation.bidirectional import Bracket, bracket
from curvae.evaluation.calibration import Calibration, calibrate
from curvae.evaluation.choice import choose
from curvae.evaluation.compare import Comparison, Difference, compare
from curvae.evaluation.diagnostics import Estimates, estimate, khat, smooth
from curvae.evaluation.evaluate import evaluate
from curvae.evaluation.gap_results import Gaps, Member
from curvae.evaluation.gaps import gaps
from curvae.evaluation.holm import holm, paired_p_value
from curvae.evaluation.importance import balanced_weights, posterior_weights, system_weights
from curvae.evaluation.imputation import Imputation, impute
from curvae.evaluation.information import information
from curvae.evaluation.latent import describe
from curvae.evaluation.latent_curve import LatentCurve, Size
from curvae.evaluation.latent_results import Information
from curvae.evaluation.pictures import pictures
from curvae.evaluation.proposal import Widened, common_proposal, defensive
from curvae.evaluation.quality import quality
from curvae.evaluation.quality_results import Likeness, Quality
from curvae.evaluation.results import AnnealedResult, Estimate, Evaluation, ProposalResult, Summary
from curvae.evaluation.scores import score
from curvae.evaluation.store import read
from curvae.evaluation.summary import summarize
from curvae.evaluation.two_sample import classified, mmd

__all__ = [
    "AnnealedResult",
    "AnnealingPath",
    "BaselineResult",
    "Bracket",
    "Calibration",
    "Comparison",
    "Difference",
    "Estimate",
    "Estimates",
    "Evaluation",
    "Gaps",
    "Imputation",
    "Information",
    "LatentCurve",
    "Likeness",
    "Member",
    "ProposalResult",
    "Quality",
    "Size",
    "Summary",
    "Widened",
    "annealed",
    "balanced_weights",
    "bracket",
    "calibrate",
    "choose",
    "classified",
    "common_proposal",
    "compare",
    "defensive",
    "describe",
    "estimate",
    "evaluate",
    "gaps",
    "holm",
    "impute",
    "information",
    "khat",
    "mmd",
    "paired_p_value",
    "pictures",
    "posterior_weights",
    "quality",
    "read",
    "score",
    "smooth",
    "summarize",
    "system_weights",
]
