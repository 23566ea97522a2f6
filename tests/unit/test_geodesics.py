"""Shortest curves: flat and bent surfaces with a known length, energy, symmetry, draws, the doors, misuse."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import curvae
from curvae.latents import decoded_spread, geodesics, mean_decoder
from curvae.report import write_report
from curvae.systems import direct_vae, lossy_vae, vae
from curvae.typing import DataSpec

F64 = torch.float64


def codes(*values: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def cylinder(z: torch.Tensor) -> torch.Tensor:
    return torch.stack([z[:, 0].cos(), z[:, 0].sin(), z[:, 1]], 1).unsqueeze(0)


def sphere(z: torch.Tensor) -> torch.Tensor:
    """Longitude and latitude."""
    x, y = z.unbind(1)
    return torch.stack([y.cos() * x.cos(), y.cos() * x.sin(), y.sin()], 1).unsqueeze(0)


def test_a_flat_metric_gives_the_straight_line():
    matrix = torch.randn(5, 2, dtype=F64)
    start, end = codes((0, 0), (1, 2)), codes((3, 4), (-1, 0.5))
    found = geodesics(lambda z: (z @ matrix.mT).unsqueeze(0), start, end, segments=16)
    share = torch.linspace(0, 1, 17, dtype=F64).reshape(1, -1, 1)
    torch.testing.assert_close(found.points, start.unsqueeze(1) + share * (end - start).unsqueeze(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.length, ((end - start) @ matrix.mT).norm(dim=1))
    torch.testing.assert_close(found.energy, found.length.square())


def test_a_helix_on_the_cylinder():
    """In the plane of its coordinates it is straight; coordinates that are bent have to be found."""

    def bent(z: torch.Tensor) -> torch.Tensor:
        return cylinder(torch.stack([z[:, 0] + 0.8 * (2 * z[:, 1]).sin(), z[:, 1]], 1))

    start, end = codes((0.2, -0.5)), codes((2.0, 1.0))
    angle = [float(each[0, 0] + 0.8 * math.sin(2 * float(each[0, 1]))) for each in (start, end)]
    expected = math.hypot(angle[1] - angle[0], 1.5)
    found = geodesics(bent, start, end, segments=64)
    assert abs(found.length.item() - expected) < 1e-3
    assert found.straight_length.item() > expected + 0.01
    assert found.energy.item() < found.straight_energy.item()


def test_great_circles_on_the_sphere():
    pairs = [((0.0, 0.6), (2.0, 0.6)), ((-1.0, -0.4), (0.7, 0.9)), ((0.0, 0.0), (1.5, 0.0))]
    start, end = codes(*(one for one, _ in pairs)), codes(*(two for _, two in pairs))
    expected = (sphere(start)[0] * sphere(end)[0]).sum(1).acos()
    found, back = geodesics(sphere, start, end), geodesics(sphere, end, start)
    assert (found.length - expected).abs().max() < 1e-3
    torch.testing.assert_close(back.length, found.length, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.points.flip(1), found.points, atol=1e-2, rtol=0)
    assert (found.energy <= found.straight_energy).all()
    middle = sphere(found.points[:, 16])[0]
    center = sphere(start)[0] + sphere(end)[0]
    torch.testing.assert_close(middle, center / center.norm(dim=1, keepdim=True), atol=5e-3, rtol=0)
    torch.testing.assert_close(found.points[:, 0], start)
    torch.testing.assert_close(found.points[:, -1], end)


def test_the_metric_is_that_of_all_draws():
    """``E[J'J]`` of two linear maps: that of one which is neither, nor their mean."""
    one, two = torch.randn(2, 4, 2, dtype=F64)
    start, end = codes((0, 0)), codes((1, -2))
    found = geodesics(lambda z: torch.stack([z @ one.mT, z @ two.mT]), start, end, segments=8)
    metric = (one.mT @ one + two.mT @ two) / 2
    expected = ((end - start) @ metric @ (end - start).mT).sqrt().reshape(1)
    torch.testing.assert_close(found.length, expected)


def test_curves_go_round_where_draws_disagree():
    """A hill of disagreement between the codes: the curve leaves the straight line, on either side."""

    def decode(z: torch.Tensor) -> torch.Tensor:
        hill = 3 * (-4 * (z - codes((0.0, 0.15))).square().sum(1, keepdim=True)).exp()
        return torch.stack([torch.cat([z, sign * hill], 1) for sign in (1.0, -1.0)])

    found = geodesics(decode, codes((-1.0, 0.0)), codes((1.0, 0.0)))
    assert found.points[0, 16, 1] < -0.3
    assert found.length < 0.9 * found.straight_length
    spread = decoded_spread(decode, found.points[0])
    assert spread.max() < 0.7 * decoded_spread(decode, codes((0.0, 0.0))).item()


def test_a_network_is_never_the_worse_for_it():
    """Kinks and all, in single precision."""
    system = vae(DataSpec((6,)), latent=3, hidden=16)
    start, end = torch.randn(2, 5, 3)
    found = geodesics(mean_decoder(system.model), start, end, segments=8, steps=20)
    assert (found.energy <= found.straight_energy).all()
    assert (found.length <= found.energy.sqrt() * 1.0001).all()
    assert all(value.grad is None for value in system.parameters())


def test_what_is_refused():
    flat = nn.Identity()
    for segments in (0, 3, 6, 12, 33):
        with pytest.raises(ValueError, match=r"segments: expected 4, 8, 16, 32, ...; got"):
            geodesics(flat, codes((0, 0)), codes((1, 1)), segments)
    with pytest.raises(ValueError, match="steps"):
        geodesics(flat, codes((0, 0)), codes((1, 1)), steps=0)
    with pytest.raises(ValueError, match="discrete"):
        mean_decoder(direct_vae(DataSpec((4,), "binary")).model)
    with pytest.raises(ValueError, match="also sees x"):
        mean_decoder(lossy_vae(DataSpec((1, 4, 4)), latent=2).model)


def test_doors_of_a_run(tmp_path):
    """``Fitted.geodesic`` in reported axes and own units; the report draws what an evaluation found."""
    x = np.random.default_rng(0).normal(size=(120, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    fitted = curvae.fit(
        "laplacian-ae", x, latent=2, hidden=8, draws=3, max_updates=20, out=tmp_path / "run", progress=False
    )
    z = fitted.encode(x[:2]).mean
    found = fitted.geodesic(z[0], z[1], segments=8)
    assert found.z.shape == (9, 2)
    assert found.x.shape == (9, 4)
    np.testing.assert_allclose(found.z[[0, -1]], z, atol=1e-5)
    np.testing.assert_allclose(found.x[[0, -1]], fitted.decode(z), rtol=1e-4, atol=1e-4)
    assert found.length <= found.straight_length * 1.001
    again = fitted.geodesic(*fitted.encode(x[:2], rotate=False).mean, segments=8, rotate=False)
    assert abs(again.length - found.length) < 1e-2 * found.length
    with pytest.raises(ValueError, match=r"geodesic: start: expected 2 numbers, got shape \(3,\)"):
        fitted.geodesic(np.zeros(3), z[1])
    curvae.evaluate(fitted.run, samples=5, progress=False)
    with np.load(tmp_path / "run" / "pictures.npz") as arrays:
        assert arrays["geodesics"].shape[0] == 3
        assert arrays["plane_spread"].shape == (40, 40)
        assert (arrays["geodesic_length"] <= arrays["straight_length"] * 1.001).all()
    page = write_report(tmp_path / "run").read_text()
    assert "Shortest curves" in page
