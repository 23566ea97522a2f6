"""What the published comparison is made of: data sets with their preprocessing, networks, methods, and their order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

from curvae.systems import LatentSystem, householder_vae, iaf_vae, sa_vae, vae, vlae
from curvae.typing import DataSpec


class Network(NamedTuple):
    """Sizes: encoder P-hidden-hidden-2 latent, decoder latent-hidden-hidden-P, ReLU."""

    latent: int
    hidden: int


NETWORKS = {"small": Network(16, 256), "large": Network(50, 500)}
STEPS = (1, 2, 4, 8)
SGD = {"rate": 0.1, "momentum": 0.0}
"""Of SA-VAE, for the ELBO of one datum; see docs/studies/published.md for how the rate was chosen."""

GREY = ("mnist", "cifar10", "fashion_mnist", "svhn")
DATASETS: dict[str, tuple[str, dict[str, Any]]] = {
    "mnist": ("mnist", {}),
    "mnist-binarized": ("mnist", {"binarize": "dynamic"}),
    **{name: (name, {}) for name in (*GREY[1:], "omniglot")},
    **{f"{name}-dequantized": (name, {"dequantize": True}) for name in GREY},
    "digits": ("digits", {}),
}
"""By name: what :func:`curvae.data.load` is asked for. Burda's OMNIGLOT has no grey levels to dequantize."""
PUBLISHED = tuple(name for name in DATASETS if name != "digits")
"""The digits are for trying this out."""

METHODS: dict[str, Callable[..., LatentSystem]] = {
    "vae": vae,
    **{f"sa-vae-{count}": partial(sa_vae, steps=count, **SGD) for count in STEPS},
    **{f"householder-{count}": partial(householder_vae, reflections=count) for count in STEPS},
    **{f"iaf-{count}": partial(iaf_vae, flows=count) for count in STEPS},
    **{f"vlae-{count}": partial(vlae, steps=count, warmup=0.0, published=True) for count in STEPS},
}
FIRST = ("vae", "vlae-1", "vlae-4", "householder-4", "iaf-4", "sa-vae-4", "vlae-8", "vlae-2")
"""Methods by what their cell is worth; the others follow."""
ORDER = (*FIRST, *(name for name in METHODS if name not in FIRST))


@dataclass(frozen=True)
class Cell:
    """One run of the comparison."""

    data: str
    network: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.network}-{self.method}-{self.seed}"

    def system(self, spec: DataSpec) -> LatentSystem:
        """The system, with weights drawn from torch's generator."""
        latent, hidden = NETWORKS[self.network]
        return METHODS[self.method](spec, latent=latent, hidden=hidden)


def plan(networks: Iterable[str], data: Iterable[str], methods: Iterable[str], seeds: Iterable[int]) -> Iterator[Cell]:
    """All cells, largest value first: networks and data as given, a seed with all its methods, these by their worth.

    >>> [cell.method for cell in plan(["small"], ["mnist"], ["vlae-2", "vlae-4", "vae"], [0])]
    ['vae', 'vlae-4', 'vlae-2']
    """
    chosen = sorted(methods, key=ORDER.index)
    for network, name, seed, method in product(networks, data, seeds, chosen):
        yield Cell(name, network, method, seed)


def kind(method: str) -> tuple[str, int]:
    """A method's family and its T, 0 for the plain VAE.

    >>> kind("sa-vae-4"), kind("vae")
    (('sa-vae', 4), ('vae', 0))
    """
    family, _, count = method.rpartition("-")
    return (family, int(count)) if count.isdigit() else (method, 0)
