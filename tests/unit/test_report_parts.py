"""The pure functions behind the page, on cases worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from curvae.evaluation import formatting
from curvae.evaluation.results import AnnealedResult, Estimate, Evaluation, ProposalResult, Summary
from curvae.report import figures, page, pictures, sections, verdict_sentences
from curvae.report.snapshot import Snapshot


def test_a_correlation_matrix_by_hand():
    covariance = np.array([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    expected = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(pictures.correlation(covariance), expected)


def test_an_ellipse_holds_95_percent():
    covariance = np.array([[2.0, 1.2], [1.2, 1.0]])
    ellipse = pictures.ellipse(np.array([1.0, -1.0]), covariance, "#0072b2")
    draws = np.random.default_rng(0).multivariate_normal([1.0, -1.0], covariance, size=20_000)
    inside = ellipse.get_patch_transform().inverted().transform(draws)
    assert np.mean((inside**2).sum(1) <= 1) == pytest.approx(0.95, abs=0.006)


def test_the_plane_is_that_of_the_largest_variance():
    z = np.random.default_rng(0).normal(size=(500, 4)) * np.array([0.1, 3.0, 0.1, 2.0])
    _, rotation, share = pictures.plane(z)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(2), atol=1e-12)
    assert abs(rotation[1, 0]) > 0.99
    assert abs(rotation[3, 1]) > 0.99
    assert share > 0.99


def test_two_dimensions_are_not_rotated():
    z = np.random.default_rng(0).normal(size=(50, 2)) + 5
    origin, rotation, _ = pictures.plane(z)
    np.testing.assert_array_equal((z - origin) @ rotation, z)


def test_tiles_keep_the_order_and_the_scale():
    images = np.linspace(0, 255, 3)[:, None, None, None] * np.ones((3, 1, 84, 84))
    sheet = pictures.tiles(images, 2, (0.0, 255.0))
    assert sheet.shape == (2 * 84 + 4, 2 * 84 + 4, 3)
    assert (sheet[0, 0, 0], sheet[0, -1, 0], sheet[-1, 0, 0], sheet[-1, -1, 0]) == (0, 0.5, 1, 1)


def test_rare_labels_are_one_group():
    labels = np.concatenate([np.repeat(np.arange(9), 5), np.arange(9, 30)])
    groups = pictures.label_groups(labels, len(labels))
    assert list(groups) == [*"012345678", "other"]
    assert sum(rows.sum() for rows in groups.values()) == len(labels)


def test_the_frame_of_a_histogram_leaves_single_values_out():
    bulk = np.random.default_rng(0).normal(size=2000)
    low, high = figures.histogram_range([np.append(bulk, -1e6)])
    assert -7 < low < -2.5
    assert high == bulk.max()
    assert figures.histogram_range([np.full(5, 3.0)]) == (2.5, 3.5)
    assert figures.histogram_range([]) == (0.0, 1.0)


def test_dashed_lines_of_a_histogram_are_means_or_the_limit():
    samples = {"one": np.array([0.0, 1.0, 2.0, np.nan]), "other": np.array([4.0, 6.0]), "none": np.array([np.nan])}
    for limit, expected in ((None, [1.0, 5.0]), (0.7, [0.7])):
        (axes,) = figures.histograms(samples, "x", limit).axes
        dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert dashed == pytest.approx(expected)


def test_a_learning_curve_is_cut_only_where_its_start_is_far_below():
    steep = np.append(-1000.0, np.linspace(-50, -40, 20))
    cut = figures.lowest_shown([steep])
    assert cut is not None
    assert -55 < cut < -45
    assert figures.lowest_shown([np.linspace(-50, -40, 20)]) is None
    assert figures.lowest_shown([steep[:4]]) is None


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (-83.21374, 0.1372, "−83.21 ± 0.14"),
        (1234.5, 12.3, "1,234 ± 12"),
        (0.5, 0.0, "0.5"),
        (0.0, float("nan"), "0"),
        (float("nan"), 1.0, "–"),
        (float("inf"), float("nan"), "–"),
        (123456.7, float("nan"), "123,457"),
    ],
)
def test_numbers_are_rounded_to_their_error(value: float, stderr: float, text: str):
    assert formatting.format_number(value, stderr) == text


@pytest.mark.parametrize(
    ("flagged", "said"), [(0.0, "relied on"), (0.05, "5.0% of the data"), (0.4, "Read it with care"), (np.nan, "")]
)
def test_the_verdict_says_how_far_to_trust_it(flagged: float, said: str):
    part = ProposalResult(Estimate(-3.0, 0.1), Summary(100, 50, 0), Summary(0.4, 1.0, flagged))
    assert said in verdict_sentences.trust(Evaluation(laplace=part))


def test_what_is_left_out_for_one_reason_shares_a_line():
    left_out = [page.PageSection(letter, letter.upper(), absent="why.") for letter in "ac"]
    source = page.page(
        "title", "lead", "1", "2", [left_out[0], page.PageSection("b", "B", "<p>x</p>"), left_out[1]], "foot"
    )
    assert source.count("left out") == 1
    assert source.index("<b>A, C</b> left out: why.") < source.index("<p>x</p>")


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_short_run_has_curves(epochs: int):
    x = np.arange(epochs) + 1.0
    stages = np.array(["vae", "laplace"][:epochs])
    figure = figures.curves(x, {"training": -x, "validation": x * np.nan}, "epoch", "nats", stages, clip=True)
    figure.canvas.draw()
    assert len(figure.axes[0].lines) == 2


def test_a_search_that_starts_at_the_mode_has_a_figure():
    figure = figures.bands(np.zeros((3, 10)), "nats")
    figure.canvas.draw()
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("latents", [1, 3])
def test_dead_latents_have_bars(latents: int):
    """Pytest makes matplotlib's warning of an empty range an error."""
    zeros = np.zeros(latents)
    for threshold in (None, 0.01):
        figures.bars(zeros, zeros > 0, np.arange(latents), "nats", threshold=threshold).canvas.draw()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [slice(1), slice(None)])
def test_values_that_are_not_finite_are_left_out_of_pictures(bad: float, rows: slice):
    values, other = np.random.default_rng(0).normal(size=(2, 5, 2))
    values[rows, 1] = bad
    pictures.parity_plot(values, other).canvas.draw()
    for pair in ((values, other), (other, values)):
        pictures.column_histograms(*pair).canvas.draw()


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("latents", [2, 3, 4])
def test_few_rows_have_a_plane(rows: int, latents: int):
    means = np.random.default_rng(0).normal(size=(rows, latents))
    pictures.latent_plot(means, np.broadcast_to(np.eye(latents), (rows, latents, latents)), None).canvas.draw()


def test_results_name_the_flagged_the_best_and_the_second_opinion():
    part = ProposalResult(Estimate(-3.0, 0.1, 0.02), Summary(100, 50, 0), Summary(0.4, 1.0, 0.05))
    annealed = AnnealedResult(
        *(Estimate(-2.9, 0.2), Summary(12, 3, 0.1), 0.8, 300, 16, 40, Estimate(0.1, 0.05), Summary(600, 4800, 0.05)),
        **{"flagged": 2, "compared": 36, "agreement": 0.975},
    )
    found = Evaluation(
        Estimate(-3.0, 0.1),
        trusted=Estimate(-2.5, 0.1),
        flagged=5,
        best=part,
        chosen={"laplace": 0.9, "defensive": 0.1},
        own=part,
        laplace=part,
        defensive=part,
        smoothed=Estimate(-3.01, 0.1),
        ais=annealed,
        count=100,
    )
    shown = sections.results_section(Snapshot(Path("run"), {}, evaluation=found)).html
    for said in (
        "by importance sampling from the best proposal of each datum",
        "without the 5 data that are flagged (5.0%)",
        "−2.50 ± 0.10 nats",
        "Pareto-smoothed",
        "of the first 40 data: 16 chains over 300 temperatures, or more where weights spread (most 4,800). 2 data are",
        "agree within two standard errors for 98% of the 36 data that are flagged by neither",
        "both, half each",
        "(the common Laplace proposal for 90%, both together for 10%)",
    ):
        assert said in shown, said
    assert (
        "flagged"
        not in sections.results_section(
            Snapshot(Path("run"), {}, evaluation=Evaluation(Estimate(-3, 1), own=part))
        ).html
    )
