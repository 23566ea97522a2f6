"""Learned priors by the flows of this library that are cheap in the direction of the density."""

from collections.abc import Sequence

from curvae.flows import Autoregressive, affine
from curvae.priors.flow import FlowPrior


def autoregressive_prior(size: int, steps: int = 4, hidden: Sequence[int] = (128,)) -> FlowPrior:
    """``u_i = m_i(z_<i) + exp(s_i(z_<i)) z_i``, K times in alternating order, ``u ~ N(0, I)``.

    One pass of the masked networks gives the density, D passes for each step a draw. Its ELBO is that of an inverse
    autoregressive posterior with u as latent, behind a decoder that has the flow in front.

    Reference: Chen et al., *Variational Lossy Autoencoder*, ICLR 2017.

    Args:
        size: number of latent dimensions D.
        steps: number K of masked networks.
        hidden: widths of each network's hidden layers.

    Example:
        >>> autoregressive_prior(4, steps=2).sample(3).shape
        torch.Size([3, 4])
    """
    return FlowPrior(Autoregressive(size, 0, steps, hidden, affine()))


def coupling_prior(size: int, steps: int = 4, hidden: Sequence[int] = (64,)) -> FlowPrior:
    """RealNVP as the prior: one half of z decides how the other is shifted and scaled, K times; cheap both ways.

    Reference: Xu et al., *On the Necessity and Effectiveness of Learning the Prior of Variational Auto-Encoder*,
    arXiv:1905.13452, 2019; Dinh, Sohl-Dickstein and Bengio, *Density Estimation Using Real NVP*, ICLR 2017.

    Args:
        size: number of latent dimensions D.
        steps: number K of couplings.
        hidden: widths of each network's hidden layers.

    Example:
        >>> coupling_prior(4, steps=2).sample(3).shape
        torch.Size([3, 4])
    """
    return FlowPrior(Autoregressive(size, 0, steps, hidden, affine(), passes=2))
