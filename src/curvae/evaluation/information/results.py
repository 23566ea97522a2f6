"""What an evaluation found of the latents of all data together."""

from dataclasses import dataclass

from curvae.evaluation.estimate import Estimate
from curvae.io.typed import Count


@dataclass(frozen=True)
class Information:
    """Information in nats, and the aggregate posterior ``q(z) = mean q(z | x)`` against the prior.

    Example:
        >>> Information(Estimate(2.0, 0.1), Estimate(2.2, 0.1), ceiling=6.9, count=1000).mutual_upper
        Estimate(value=2.2, stderr=0.1, monte_carlo=0.0)
    """

    mutual_lower: Estimate | None
    """Lower end of I_q(x; z); None where the posterior has no density. At most ``ceiling``."""
    mutual_upper: Estimate
    """Upper end of it: the mean KL to the prior, or less."""
    correlation_lower: Estimate | None = None
    """Lower end of the total correlation of q(z); None where posteriors are not Gaussian."""
    correlation_upper: Estimate | None = None
    mmd: float = 0.0
    """Squared maximum mean discrepancy of q(z) and the prior, unbiased."""
    mmd_p_value: float = 1.0
    accuracy: float = 0.5
    """Share of held-out draws of which a classifier told whether they are of q(z) or of the prior; 1/2 is the best."""
    accuracy_stderr: float = 0.0
    accuracy_p_value: float = 1.0
    ceiling: float = 0.0
    """log N: what N data can show at most."""
    count: Count = 0
    """N."""
