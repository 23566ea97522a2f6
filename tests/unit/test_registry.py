"""Names of systems and of modules in files."""

import inspect
from pathlib import Path
from typing import get_args

import pytest
from torch import nn

from curvae import registry, systems
from curvae.cli.info import TITLES
from curvae.networks import LastBlock
from curvae.systems.base import SYSTEMS, Purpose
from curvae.typing import DataSpec

SPEC = DataSpec((6,))
LINEAR = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 6}}


def test_networks_are_alike_unless_said_otherwise():
    """Or a comparison of two systems would be one of their networks."""
    for name, value in {"hidden": 256, "depth": 2, "start": "linear"}.items():
        found = {word: inspect.signature(make).parameters.get(name) for word, make in SYSTEMS.items()}
        odd = {word for word, each in found.items() if each is not None and each.default != value}
        several = {"predictive-coding", "flat-ladder", "ladder-clustering"}  # one for each of their layers
        frames = {"td-vae", "vrnn"}  # of a frame, not of a whole sequence
        places = {"pc-transformer"}  # of a place, not of a whole text
        assert odd == {"hidden": frames | places, "depth": several | frames, "start": set()}[name]


def test_each_system_is_listed_once_by_what_it_is_for():
    listed = [name for purpose in TITLES for name in registry.systems(purpose)]
    assert sorted(listed) == list(registry.systems())
    assert tuple(TITLES) == get_args(Purpose)
    ours = [name for name in registry.systems("own") if SYSTEMS[name].__module__.startswith("curvae.")]
    assert ours == []


def test_names_and_builders():
    assert registry.systems() == tuple(sorted(registry.systems()))
    assert {"vae", "vlae", "iwae"} <= set(registry.systems())
    assert registry.system("vae") is systems.vae


def test_every_file_of_a_system_is_exported():
    """By the name of its file; see docs/decisions/0020."""
    folder = Path(systems.__path__[0])
    files = {path.stem for path in folder.glob("*.py") if "\n@register(" in path.read_text(encoding="utf-8")}
    assert files >= {build.__name__ for build in SYSTEMS.values() if build.__module__.startswith("curvae.")}
    assert files <= set(systems.__all__)


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(ValueError, match=r"expected one of .*; got 'vlea'. Did you mean 'vlae'\?$"):
        registry.system("vlea")
    with pytest.raises(ValueError, match=r"got 'quicksort'.$"):
        registry.system("quicksort")


@pytest.mark.parametrize("name", registry.systems())
def test_every_system_describes_itself(name: str):
    line, reference = registry.describe_system(name)
    assert line.endswith(".")
    assert len(line) <= 120
    assert reference[-5:-1].isdigit()


def test_build_makes_what_a_file_describes():
    arguments = {
        "latent": 2,
        "hidden": 8,
        "decoder": LINEAR,
    }
    system = registry.build("vae", arguments, {"event": [6], "support": "real", "categories": 2, "name": "array"})
    assert isinstance(system.model.decoder, nn.Linear)
    assert system.recipe.arguments["spec"] == DataSpec((6,))


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.Popen", "torch.nn.init.zeros_", "torch.nn.Nothing", "torch.nn"]
)
def test_build_trusts_no_other_class(path: str):
    with pytest.raises(ValueError, match="expected a module of curvae or"):
        registry.build("vae", {"decoder": {"class_path": path, "init_args": {}}}, SPEC)


def test_build_passes_over_what_a_run_of_before_recorded():
    assert "budget" not in registry.build("vlae", {"latent": 2, "budget": True}, DataSpec((4,))).recipe.arguments
    with pytest.raises(ValueError, match="'budget'; was it saved by another version"):
        registry.build("vae", {"budget": True}, DataSpec((4,)))


def test_build_knows_names_of_before():
    refined = registry.build("sa-vae", {"through": False, "imitate": 0.5}, SPEC).inference
    assert (refined.unroll, refined.kl_weight) == (False, 0.5)
    assert len(registry.build("hvae", {"steps": 4, "varied": True}, SPEC).inference.steps.raw) == 4
    decoder = {"class_path": "curvae.networks.Lowest", "init_args": {"size": 2, "network": LINEAR}}
    made = registry.build("vae", {"latent": 3, "decoder": decoder}, SPEC).model.decoder
    assert isinstance(made, LastBlock)
    assert set(made.state_dict()) == {"network.weight", "network.bias"}


def test_build_names_a_wrong_argument():
    with pytest.raises(ValueError, match="system 'vae': got an unexpected keyword argument 'colour'"):
        registry.build("vae", {"colour": "red"}, SPEC)
