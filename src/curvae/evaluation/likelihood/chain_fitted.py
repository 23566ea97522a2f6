"""A proposal fitted to short Hamiltonian chains: the moments of p(z | x) itself, not the curvature at its mode."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from curvae import linalg
from curvae.curvature import take_rows
from curvae.distributions.gaussian import pack
from curvae.dynamics import HMCState, transition
from curvae.evaluation.likelihood.diagnostics import khat
from curvae.evaluation.likelihood.weighted_draws import rows_of_posterior
from curvae.model import LatentVariableModel
from curvae.posteriors import StudentMixture
from curvae.typing import Batch

ACCEPTED = 0.75
"""Share of the transitions that the step is tuned to."""
CORRELATED = 6
"""States of a chain that tell as much as one draw."""
TRUST = 16
"""Draws that the start's covariance is worth beside those of the chains."""
FREEDOM, WIDTH = 10, 1.2
"""Tails of the proposal, and the factor on its covariance."""


@dataclass(frozen=True)
class ChainFit:
    """How chains are run, and when they have said enough.

    Rounds of transitions go on for the examples whose trial weights have a k-hat above ``good``. As k-hat does not see
    what a proposal never reaches, they go on too where a chain has come to a place of a larger weight than all of the
    trial's together, and where the chains lie further apart than what was fitted to them, by three standard errors:
    they are still on their way. Each round continues the chains with steps in units of the covariance fitted so far; of
    all states the later half is kept.

    Args:
        chains: for each example.
        transitions: of each chain in a round.
        leapfrogs: gradients a transition takes.
        rounds: at most.
        trial: draws of the proposal that a round ends with; they are thrown away.
        good: the k-hat that is enough.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> start = StudentMixture.of(DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2)))
        >>> batch = Batch(torch.zeros(4, 3), torch.arange(4))
        >>> ChainFit(rounds=2)(model, batch, start, torch.Generator().manual_seed(0)).mean.shape
        torch.Size([4, 2])
    """

    chains: int = 8
    transitions: int = 20
    leapfrogs: int = 4
    rounds: int = 8
    trial: int = 500
    good: float = 0.4

    @torch.no_grad()
    def __call__(
        self,
        model: LatentVariableModel,
        batch: Batch,
        start: StudentMixture,
        generator: Generator | None = None,
    ) -> StudentMixture:
        """The proposal for each example, from one with a component at each mode known: chains begin at draws of it."""
        z = start.draw(self.chains, generator).z
        now = Fitting(batch, start, start, z, z[:0], torch.full_like(z[0, :, :1], 0.5))
        rows, found = torch.arange(len(z[0]), device=z.device), dict(start.tensors)
        for _ in range(self.rounds):
            now = self._round(model.given(now.batch.context), now, generator)
            proposal, quality = proposal_from_fit(model.given(now.batch.context), now, self.trial, generator)
            for name, value in proposal.tensors.items():
                found[name] = found[name].index_copy(0, rows, value)
            kept = (~(quality <= self.good)).nonzero().squeeze(-1).to(rows.device)
            if len(kept) == 0:
                break
            rows, now = rows[kept], now.take(kept)
        return StudentMixture(**found, freedom=FREEDOM)

    def _round(self, model: LatentVariableModel, now: "Fitting", generator: Generator | None) -> "Fitting":
        """Every chain some transitions further, and the law fitted to the later half of all their states."""
        loc, factor = nearest(now.law, now.z)

        def colored(e: Float[Tensor, "C B D"]) -> Float[Tensor, "C B D"]:
            return loc + torch.einsum("cbij,cbj->cbi", factor, e)

        def target(e: Float[Tensor, "C B D"]) -> Float[Tensor, "C B"]:
            return model.log_joint(now.batch.x, colored(e), now.batch.mask)

        state, step, states = HMCState.at(target, whiten_by(now.law, now.z)), now.step, []
        for _ in range(self.transitions):
            share = 0.4 + 0.6 * torch.rand(*state.value.shape, 1, generator=generator, device=step.device).to(step)
            state, info = transition(target, state, step * share, self.leapfrogs, generator)
            step = step * (0.5 * (info.acceptance.mean(0) - ACCEPTED)).exp().unsqueeze(-1)
            states.append(colored(state.z))
        history = torch.cat([now.history, *states])
        law = em_step(history[len(history) // 2 :], now.law, now.first)
        return now._replace(law=law, z=states[-1], history=history, step=step)


class Fitting(NamedTuple):
    """What is known of some examples between two rounds."""

    batch: Batch
    first: StudentMixture
    law: StudentMixture
    """Fitted so far."""
    z: Float[Tensor, "C B D"]
    history: Float[Tensor, "S B D"]
    """All states of all chains."""
    step: Float[Tensor, "B 1"]

    def take(self, rows: Int[Tensor, " n"]) -> "Fitting":
        """Some of the examples."""
        first, law = rows_of_posterior(self.first, rows), rows_of_posterior(self.law, rows)
        return Fitting(take_rows(self.batch, rows), first, law, self.z[:, rows], self.history[:, rows], self.step[rows])


def nearest(law: StudentMixture, z: Float[Tensor, "C B D"]) -> tuple[Float[Tensor, "C B D"], Float[Tensor, "C B D D"]]:
    """Center and factor of the component that each point most likely belongs to."""
    which, rows = law.each_log_prob(z).argmax(0), torch.arange(z.shape[1], device=z.device)
    return law.loc[rows, which], law.factor[rows, which]


def whiten_by(law: StudentMixture, z: Float[Tensor, "C B D"]) -> Float[Tensor, "C B D"]:
    """In units of that component."""
    loc, factor = nearest(law, z)
    return linalg.solve_lower(factor, (z - loc).unsqueeze(-1)).squeeze(-1)


def em_step(z: Float[Tensor, "S B D"], law: StudentMixture, first: StudentMixture) -> StudentMixture:
    """One step of EM for a mixture of Gaussians, its covariances shrunk towards those at the start."""
    share = law.each_log_prob(z).softmax(0)
    count = share.sum(1)
    mean = (torch.einsum("ksb,sbd->bkd", share, z) + 1e-3 * law.loc) / (count.mT.unsqueeze(-1) + 1e-3)
    offset = z.unsqueeze(2) - mean
    outer = torch.einsum("ksb,sbki,sbkj->bkij", share, offset, offset) / CORRELATED
    before = first.factor @ first.factor.mT
    size = (count / CORRELATED).mT[..., None, None]
    factor = linalg.cholesky(((outer + TRUST * before) / (size + TRUST)).flatten(0, 1))[0]
    logits = ((count + 1) / (len(z) + len(count))).log().mT
    return StudentMixture(mean, pack(factor).unflatten(0, mean.shape[:2]), logits, None)


def proposal_from_fit(
    model: LatentVariableModel, now: Fitting, draws: int, generator: Generator | None
) -> tuple[StudentMixture, Tensor]:
    """The proposal that a fit gives, each component weighed by its share of the trial's weights, and their k-hat.

    It is infinite where the chains have seen more than the proposal, see :class:`ChainFit`.
    """
    proposal = replace(now.law.widened(WIDTH), freedom=FREEDOM)
    z, log_q = proposal.draw(draws, generator)[:2]
    log_w = model.log_joint(now.batch.x, z, now.batch.mask) - log_q
    visited = model.log_joint(now.batch.x, now.z, now.batch.mask) - proposal.log_prob(now.z)
    if proposal.logits.shape[-1] > 1:
        share = torch.einsum("ksb,sb->bk", proposal.each_log_prob(z).softmax(0), log_w.softmax(0))
        proposal = replace(proposal, logits=(0.9 * share + 0.1 * now.law.weights).log())
    quality = torch.from_numpy(khat((log_w - math.log(draws)).cpu().double().numpy()))
    spread = whiten_by(now.law, now.z).square().mean((0, 2))
    missed = (visited > log_w.logsumexp(0)).any(0) | (spread > 1 + 3 * (2 / now.z[:, 0].numel()) ** 0.5)
    return proposal, torch.where(missed.cpu(), math.inf, quality)
