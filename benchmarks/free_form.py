"""fif-vae with its exact gradient beside the free-form estimate of it: MNIST, four rates, 300 updates each.

    python benchmarks/free_form.py FOLDER          # 8 cells, 3 CPU minutes; goes on if cut off

FOLDER holds the data as docs/fits.md says. Each cell is a line of ``results/free-form.jsonl``.

The estimate takes no covariance: z is the encoder's mean moved along two products with its Jacobian J, and the entropy
``1/2 log det S``, S = J N J' + T^2, has the gradient ``v' dJ u + (J'v)' (dN / 2N) u + v' T dT S^-1 v`` with one normal
direction v, ``u = J_g v`` from the decoder's Jacobian, ``S^-1 J N = J_g'`` and ``S^-1 = I + J_g' J_g / s^2``.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from curvae.curvature.routes import layers
from curvae.inference import PushforwardGaussian
from curvae.likelihoods import Gaussian
from curvae.linalg import soft_bound
from curvae.objectives import Bound
from curvae.systems import LatentSystem
from curvae.typing import Batch

sys.path.insert(0, str(Path(__file__).parent / "fits"))
import cells
import images

from pages import written

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "studies" / "rivals.md"
UPDATES, RATES = 300, (5e-4, 1e-3, 2e-3, 4e-3)
GRADIENTS = ("exact", "free-form")


class FreeForm(LatentSystem):
    """Trained by the estimate, judged by the exact bound."""

    def bound(self, batch: Batch) -> Bound:
        if not self.training:
            return super().bound(batch)
        inference, model = self.inference, self.model
        assert isinstance(inference, PushforwardGaussian)
        chain, x = layers.chain(inference.encoder) or [], batch.x.flatten(1)
        out, slopes = layers.forward_with_slopes(chain, x)
        mean, root = out.chunk(2, -1)
        log_own, v = 2 * soft_bound(root), torch.randn_like(mean)
        u, near = pushed_by_decoder(self, mean, v)
        noise = inference.log_noise.exp() * torch.randn_like(x)
        moved, along = layers.push(chain, slopes, torch.stack([noise, u], 1))[..., : len(v[0])].unbind(1)
        z = mean + moved + log_own.exp() * torch.randn_like(mean)
        with torch.no_grad():
            back = layers.pull(chain, slopes, torch.cat([v, torch.zeros_like(v)], -1))
            steep = (2 * log_own).exp() * v * (v + near)
        entropy = (v * along).sum(1) + (inference.log_noise * u * back).sum(1) + (log_own * steep).sum(1)
        surrogate = model.log_joint(batch.x, z[None])[0] + entropy
        return Bound(torch.zeros_like(surrogate).detach(), surrogate)


@torch.no_grad()
def pushed_by_decoder(system: LatentSystem, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """``J_g v`` and ``J_g' J_g v / s^2`` at z."""
    chain, likelihood = layers.chain(system.model.decoder) or list[nn.Module](), system.model.likelihood
    assert isinstance(likelihood, Gaussian)
    _, slopes = layers.forward_with_slopes(chain, z)
    u = layers.push(chain, slopes, v)
    return u, layers.pull(chain, slopes, u / likelihood.variance)


def cell(gradient: str, rate: float, folder: Path) -> cells.Row:
    data = images.opened("mnist", folder)
    system = images.made("mnist", "fif-vae", data, 0, {})
    if gradient == "free-form":
        assert isinstance(system, LatentSystem)
        system = FreeForm(*system.parts(), system.objective, stages=system.stages())
    took = images.trained(system, data, 0, {"max_updates": UPDATES, "learning_rate": rate, "patience": 0})
    return {"gradient": gradient, "rate": rate, "cpu_seconds": took, **images.judged(system, data)}


def table(rows: list[cells.Row]) -> str:
    lines = ["| gradient | rate | CPU s | log p(x) | ELBO |", "|" + "---|" * 5]
    for row in sorted(rows, key=lambda row: (row["rate"], row["gradient"])):
        numbers = f"{row['cpu_seconds']:.0f} | {row['log_likelihood']:.1f} | {row['elbo']:.1f}"
        lines.append(f"| {row['gradient']} | {row['rate']:g} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = cells.Cells(HERE / "results" / "free-form.jsonl", "gradient", "rate")
    for rate in RATES:
        for gradient in GRADIENTS:
            if (gradient, rate) not in done:
                done.add(cell(gradient, rate, given.folder))
    written(PAGE, "free_form", table(done.rows))


if __name__ == "__main__":
    main()
