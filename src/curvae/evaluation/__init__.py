"""Evaluation: what a trained system is worth, with errors and diagnostics, from its run folder.

Begin with ``evaluate``, the door: it scores a table (``likelihood/``), lets each ``metric`` compute (one file each, in
``information/``, ``samples/``, ``comparison/``), makes means (``summary`` to ``results``) and writes them (``io``).
``gaps/``, ``calibration/`` and ``unknown_inputs`` (its scores in ``ood/``) are measured by themselves, and
``comparison/`` puts several runs side by side.
"""

from curvae.evaluation.calibration.calibration import Calibration, calibrate
from curvae.evaluation.calibration.local_c2st import local_c2st
from curvae.evaluation.calibration.predictive import predictive_check
from curvae.evaluation.calibration.row_checks import RowChecks, check_rows
from curvae.evaluation.calibration.row_tests import RowTest
from curvae.evaluation.comparison.compare import Comparison, Difference, compare
from curvae.evaluation.comparison.latent_curve import LatentCurve, LatentCurvePoint
from curvae.evaluation.comparison.multiple_testing import holm, paired_p_value
from curvae.evaluation.evaluate import STANDARD, evaluate
from curvae.evaluation.gaps.gaps import GapSettings, gaps
from curvae.evaluation.gaps.results import FamilyElbo, Gaps
from curvae.evaluation.information.clustering import Agreement, Clustering, agreement
from curvae.evaluation.information.identifiability import Identifiability
from curvae.evaluation.information.information import Information, LatentInformation, information
from curvae.evaluation.information.posterior_summary import posterior_statistics
from curvae.evaluation.information.two_sample import classifier_test, mmd
from curvae.evaluation.io import read_evaluation
from curvae.evaluation.likelihood.annealing import AnnealingPath, annealed_importance_sampling
from curvae.evaluation.likelihood.annealing_metric import Annealing
from curvae.evaluation.likelihood.baselines import BaselineResult, Baselines
from curvae.evaluation.likelihood.bdmc import Bracket, bracket
from curvae.evaluation.likelihood.diagnostics import Estimates, estimate, khat, pareto_smooth
from curvae.evaluation.likelihood.importance import balanced_weights, posterior_weights, system_weights
from curvae.evaluation.likelihood.proposal import Widened, common_proposal, defensive_mixture
from curvae.evaluation.likelihood.proposal_selection import select_proposal
from curvae.evaluation.likelihood.row_evidence import row_evidence
from curvae.evaluation.likelihood.scores import score
from curvae.evaluation.metric import Finding, Measured, Metric, Picture, Section, Subject
from curvae.evaluation.ood.scored_rows import OodSettings
from curvae.evaluation.ood.unknown_results import UnknownInputs
from curvae.evaluation.picture_arrays import pictures
from curvae.evaluation.results import AnnealedResult, Estimate, Evaluation, ProposalResult, Summary
from curvae.evaluation.samples.conditionals import Conditionals, conditionals
from curvae.evaluation.samples.denoising import Signal, denoise
from curvae.evaluation.samples.engines import (
    WeightedLatents,
    draw_latents,
    engines_for,
    from_chains,
    from_encoder,
    from_hmc,
    from_modes,
    from_modes_and_encoder,
    from_one_mode,
    from_prior,
)
from curvae.evaluation.samples.imputation import Imputation, impute
from curvae.evaluation.samples.quality import Likeness, Quality, SampleQuality, quality
from curvae.evaluation.settings import Settings
from curvae.evaluation.summary import summarize
from curvae.evaluation.unknown_inputs import NamedTable, unknown_inputs
from curvae.renamed import renamed

__all__ = [
    "STANDARD",
    "Agreement",
    "AnnealedResult",
    "Annealing",
    "AnnealingPath",
    "BaselineResult",
    "Baselines",
    "Bracket",
    "Calibration",
    "Clustering",
    "Comparison",
    "Conditionals",
    "Difference",
    "Estimate",
    "Estimates",
    "Evaluation",
    "FamilyElbo",
    "Finding",
    "GapSettings",
    "Gaps",
    "Identifiability",
    "Imputation",
    "Information",
    "LatentCurve",
    "LatentCurvePoint",
    "LatentInformation",
    "Likeness",
    "Measured",
    "Metric",
    "NamedTable",
    "OodSettings",
    "Picture",
    "ProposalResult",
    "Quality",
    "RowChecks",
    "RowTest",
    "SampleQuality",
    "Section",
    "Settings",
    "Signal",
    "Subject",
    "Summary",
    "UnknownInputs",
    "WeightedLatents",
    "Widened",
    "agreement",
    "annealed_importance_sampling",
    "balanced_weights",
    "bracket",
    "calibrate",
    "check_rows",
    "classifier_test",
    "common_proposal",
    "compare",
    "conditionals",
    "defensive_mixture",
    "denoise",
    "draw_latents",
    "engines_for",
    "estimate",
    "evaluate",
    "from_chains",
    "from_encoder",
    "from_hmc",
    "from_modes",
    "from_modes_and_encoder",
    "from_one_mode",
    "from_prior",
    "gaps",
    "holm",
    "impute",
    "information",
    "khat",
    "local_c2st",
    "mmd",
    "paired_p_value",
    "pareto_smooth",
    "pictures",
    "posterior_statistics",
    "posterior_weights",
    "predictive_check",
    "quality",
    "read_evaluation",
    "row_evidence",
    "score",
    "select_proposal",
    "summarize",
    "system_weights",
    "unknown_inputs",
]

_BEFORE = {
    "Member": "curvae.evaluation.FamilyElbo",
    "Size": "curvae.evaluation.LatentCurvePoint",
    "annealed": "curvae.evaluation.annealed_importance_sampling",
    "classified": "curvae.evaluation.classifier_test",
    "defensive": "curvae.evaluation.defensive_mixture",
    "describe": "curvae.evaluation.posterior_statistics",
    "smooth": "curvae.evaluation.pareto_smooth",
    "choose": "curvae.evaluation.select_proposal",
    "read": "curvae.evaluation.read_evaluation",
}
__getattr__ = renamed(__name__, _BEFORE)
