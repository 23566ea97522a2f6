"""A causal transformer that learns by predictive coding."""

from typing import Literal, get_args

import torch

from curvae.coding import CodingNetwork, Layer, NodeDescent
from curvae.distributions import FixedNormal, OneHot
from curvae.likelihoods import Categorical
from curvae.networks import Attention, AttentionScores, EarlierTokens, Residual, readout
from curvae.systems.base import register
from curvae.systems.coding_density import CodingDensity
from curvae.typing import DataSpec

Learning = Literal["predictive-coding", "incremental", "backpropagation"]
"""Word for how weights learn in a system's signature."""
NodeFamily = Literal["categorical", "normal-attention", "normal"]
"""Word for the laws of nodes that are probabilities."""


@register("pc-transformer", "density", own_prior=True)
def pc_transformer(
    spec: DataSpec,
    width: int = 64,
    blocks: int = 2,
    heads: int = 2,
    hidden: int = 128,
    learning: Learning = "predictive-coding",
    family: NodeFamily = "categorical",
    scale: float = 0.03,
    steps: int = 2,
    rate: float = 0.7,
    by_errors: bool = True,
) -> CodingDensity:
    """Predictive coding beyond Gaussians for a transformer: a language model, whose log p(x) is exact.

    Every example is a text of categories, each given those before it. Nodes, in the order in which they are predicted:
    the embedding; of each block the weights of attention, the value after attention, predicted from these weights and
    the value before, and the value after two layers at each place; at last the tokens, which are given.

    Starts at random: embeddings and layers as their modules have it.

    Reference: Pinchetti, Salvatori, Yordanov, Millidge, Song and Lukasiewicz, *Predictive Coding beyond Gaussian
    Distributions*, NeurIPS 2022, arXiv:2211.03481; the network: Vaswani et al., *Attention Is All You Need*, NIPS 2017.

    Differences: nodes move by natural gradients in their errors, at rates of each example, so that the energy never
    rises; what layers see of attention is its mean, probabilities; weights take the run's optimizer.

    Args:
        width: of an embedding.
        blocks: number of blocks.
        heads: of attention in each of them; the width is a multiple.
        hidden: width between the two layers of a block.
        learning: incremental: weights and nodes move together, ``steps`` updates on each batch (Salvatori et al.,
            arXiv:2212.00720).
        family: attention is one of categories in each row, or normal, as all is in predictive coding as it was;
            "normal": the tokens' probabilities, too, so that all errors are squared.
        scale: standard deviation of a normal node; one of categories counts as ``scale^-2`` draws. The smaller it is,
            the closer to backpropagation.
        steps: number T of steps on the nodes.
        rate: of the first step.
        by_errors: whether these steps are taken in the nodes' errors, or in the nodes, as published.

    Raises:
        ValueError: data that are not of categories or binary, a size below 1, a width that is no multiple of heads, or
            an unknown word.

    Example:
        >>> system = pc_transformer(DataSpec((16,), "category", 30), width=8, heads=2, hidden=16)
        >>> system.evidence, system.log_prob(torch.zeros(3, 16)).shape, len(system.network.layers)
        ('exact', torch.Size([3]), 8)
    """
    check_texts(spec, width, blocks, heads, hidden, scale)
    check_word("learning", learning, get_args(Learning))
    check_word("family", family, get_args(NodeFamily))
    places, categories = torch.Size(spec.event).numel(), 2 if spec.support == "binary" else spec.categories
    layers = transformer_layers(places, categories, width, blocks, heads, hidden, family, scale)
    descent = NodeDescent(steps, rate, learning == "incremental", by_errors)
    known = Categorical(places, categories)
    return CodingDensity(spec.event, CodingNetwork(layers), known, None if learning == "backpropagation" else descent)


def transformer_layers(
    places: int,
    categories: int,
    width: int,
    blocks: int,
    heads: int,
    hidden: int,
    family: NodeFamily,
    scale: float,
) -> list[Layer]:
    """The nodes of a causal transformer, in the order in which they are predicted."""
    value, categorical, squared = FixedNormal(width, scale), family == "categorical", family == "normal"
    attention = OneHot(heads, places) if categorical else FixedNormal(heads * places, scale)
    layers = [Layer(value, EarlierTokens(places, categories, width), (0,), (places,))]
    for _ in range(blocks):
        scores = AttentionScores(places, width, heads, normalized=not categorical)
        h = len(layers)  # the node of the value before the block
        layers += [
            Layer(attention, scores, (h,), (places,), scale**-2 if categorical else 1.0),
            Layer(value, Attention(places, width, heads), (h, h + 1), (places,)),
            Layer(value, Residual(width, hidden), (h + 2,), (places,)),
        ]
    output = FixedNormal(categories) if squared else OneHot(1, categories)
    return [*layers, Layer(output, readout(width, categories, normalized=squared), (len(layers),), (places,))]


def check_texts(spec: DataSpec, width: int, blocks: int, heads: int, hidden: int, scale: float) -> None:
    """Refuse data that are no texts, and sizes that do not fit.

    Raises:
        ValueError: naming what was expected.
    """
    if spec.support not in ("category", "binary"):
        raise ValueError(f"pc-transformer expects data of categories; got support {spec.support!r}.")
    if min(width, blocks, heads, hidden) < 1 or width % heads:
        got = f"{width=}, {blocks=}, {heads=}, {hidden=}"
        raise ValueError(f"pc-transformer: sizes must be 1 or more, and width a multiple of heads; got {got}.")
    if not scale > 0:
        raise ValueError(f"pc-transformer: scale must be positive; got {scale}.")


def check_word(name: str, word: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not known.

    Raises:
        ValueError: naming those that are.
    """
    if word not in known:
        raise ValueError(f"{name}: expected {', '.join(known[:-1])} or {known[-1]}; got {word!r}.")
