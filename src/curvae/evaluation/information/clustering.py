"""Clusters of latents against labels: accuracy, normalized mutual information and the adjusted Rand index."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.formatting import format_number
from curvae.evaluation.metric import Finding, Measured, Section, Subject
from curvae.systems import HasClusters, HasModel, System
from curvae.systems.device import batch_to_system

ROWS = 500
"""At a time."""
MOST = 100
"""Of labels; more are no classes."""
TITLE = "Clusters and labels"


@dataclass(frozen=True)
class Agreement:
    """How far clusters are those of labels."""

    accuracy: float
    """Share of data whose cluster stands for their label."""
    mapping: str
    """How clusters stand for labels: "Hungarian", one to one, or "majority", each for its commonest label."""
    nmi: float
    """Mutual information of cluster and label by the mean of their entropies, in [0, 1]."""
    ari: float
    """Adjusted Rand index: 0 on average for clusters by chance, 1 for the labels."""
    used: int
    """Components that any of the data are of."""
    components: int

    @property
    def text(self) -> str:
        """For the printed table."""
        scores = f"NMI {self.nmi:.3f}, ARI {self.ari:.3f}"
        return f"accuracy {self.accuracy:.1%} ({self.mapping}), {scores}; {self.used} of {self.components} used"


def agreement(labels: NDArray[Any], clusters: NDArray[np.integer], components: int) -> Agreement:
    """Clusters, numbers below ``components``, against labels of any kind, (N,) both.

    Where there are no more clusters than labels they are matched one to one for the highest accuracy (Hungarian), else
    each stands for its commonest label (majority): that is never below, and comes to 1 with a cluster for each datum.

    Example:
        >>> found = agreement(np.array(["a", "a", "b", "b"]), np.array([1, 1, 0, 1]), components=2)
        >>> found.accuracy, found.mapping, round(found.ari, 3)
        (0.75, 'Hungarian', 0.0)
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    classes, which = np.unique(labels, return_inverse=True)
    table = np.zeros((components, len(classes)), dtype=int)
    np.add.at(table, (clusters, which), 1)
    matched = components <= len(classes)
    right = table[linear_sum_assignment(-table)].sum() if matched else table.max(1).sum()
    return Agreement(
        float(right / len(which)),
        "Hungarian" if matched else "majority",
        float(normalized_mutual_info_score(which, clusters)),
        float(adjusted_rand_score(which, clusters)),
        int((table.sum(1) > 0).sum()),
        components,
    )


@dataclass(frozen=True)
class Clustering:
    """Clusters of a prior that is a mixture, or has some, against the labels of the table, which no training sees.

    Of each kind of clusters that a system has (:class:`curvae.systems.HasClusters`), as of each block of latents whose
    prior is a mixture, the most probable one of each row: see :func:`curvae.evaluation.agreement`. Nothing is found
    without labels, or of a system without clusters.
    """

    name = "clustering"

    def check(self, system: System) -> None:
        """Of any system; one without a mixture has none."""

    def compute(self, subject: Subject) -> Measured:
        labels = subject.scores.get("label")
        if labels is None or not isinstance(subject.system, HasModel):
            return Measured(None)
        counts = subject.system.cluster_counts if isinstance(subject.system, HasClusters) else {}
        if not counts or not 2 <= len(np.unique(labels)) <= MOST:
            return Measured(None)
        chosen = _chosen(subject.system, subject.table, len(labels), subject.settings.seed)
        pairs = zip(counts.items(), chosen.T, strict=True)
        found = {name: agreement(labels, clusters, components) for (name, components), clusters in pairs}
        return Measured(_told(found, len(labels)))


def _chosen(system: System, table: ArrayTable, count: int, seed: int) -> NDArray[np.int64]:
    """The most probable cluster of each kind, (N, K)."""
    assert isinstance(system, HasModel)
    assert isinstance(system, HasClusters)
    parts = system.parts()
    with seeded_evaluation(system, seed) as generator:
        batches = (batch_to_system(system, table.batch(index)) for index in torch.arange(count).split(ROWS))
        each = [system.cluster_probabilities(batch, parts.infer(batch).posterior, generator) for batch in batches]
    return torch.cat(each).argmax(-1).cpu().numpy()


def _told(found: dict[str, Agreement], count: int) -> Finding:
    header = ("Block", "Accuracy", "Matched by", "NMI", "ARI", "Components used")
    note = (
        f"Of {count:,} rows by their most probable component; no label was seen in training. Accuracy is that of the "
        "best one-to-one match of clusters and labels on these rows (Hungarian), or with more clusters than labels "
        "that of each cluster’s commonest label (majority), which more clusters make easier."
    )
    if len(found) > 1:
        note += (
            " Which block has the clusters of these labels is known by the labels alone: the best of them is chosen."
        )
    return Finding(
        {name: asdict(each) for name, each in found.items()} | {"count": count},
        tuple((name, each.text) for name, each in found.items()),
        tuple(_collapsed(found)),
        Section("clustering", TITLE, header, tuple(_row(name, each, count) for name, each in found.items()), note),
    )


def _row(name: str, found: Agreement, count: int) -> tuple[str, ...]:
    error = math.sqrt(found.accuracy * (1 - found.accuracy) / count)
    accuracy = f"{format_number(100 * found.accuracy, 100 * error)} %"
    used = f"{found.used} of {found.components}"
    return name, accuracy, found.mapping, f"{found.nmi:.3f}", f"{found.ari:.3f}", used


def _collapsed(found: dict[str, Agreement]) -> Sequence[str]:
    return [f"{name}: all data are of one component." for name, each in found.items() if each.used == 1]
