"""Every system is a value: it can be copied, pickled and sent to another process, and its copy trains itself."""

import ast
import copy
import inspect
import io
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from torch import nn

import lifecycle
import methods
from curvae.systems import System
from curvae.systems.base import SYSTEMS
from curvae.typing import DataSpec
from lifecycle import same, state, trained

DATA = {name: lifecycle.data_of(methods.event(name)) for name in methods.SYSTEMS}


def made(name: str) -> System:
    torch.manual_seed(0)
    return methods.SYSTEMS[name]()


def test_the_list_holds_all_that_are_registered():
    assert {made(name).recipe.name for name in methods.SYSTEMS} | methods.TEXTS == set(SYSTEMS)


@pytest.mark.parametrize("name", methods.SYSTEMS)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda system: pickle.loads(pickle.dumps(system))])
def test_training_a_copy_leaves_the_original_and_gives_the_same_numbers(name, again):
    original = made(name)
    before, second = state(original), again(original)
    assert same(state(second), before)
    assert second.stages() == original.stages()
    assert second.recipe == original.recipe
    after = trained(second, DATA[name])
    assert not same(after, before)
    assert same(state(original), before)
    assert same(after, trained(made(name), DATA[name]))


def test_other_processes_train_them_to_the_same_numbers(tmp_path):
    systems = {name: made(name) for name in methods.SYSTEMS}
    path = tmp_path / "systems"
    path.write_bytes(pickle.dumps({name: (system, DATA[name]) for name, system in systems.items()}))
    script = Path(lifecycle.__file__)
    found = [str(script.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    subprocess.run([sys.executable, script, path], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(found)})
    there = pickle.loads(path.read_bytes())
    assert [name for name, system in systems.items() if not same(there[name], trained(system, DATA[name]))] == []


@pytest.mark.parametrize("name", methods.SYSTEMS)
def test_to_and_eval_reach_every_part(name):
    """Whatever a bound computes with is a module of the system: in another precision nothing of the old one is left."""
    system = made(name)
    for stage in system.stages():
        for prepare in filter(None, (stage.start, *stage.prepare)):
            prepare(system, DATA[name])
    system.double().eval()
    assert not any(part.training for part in parts(system))
    tensors = [*system.parameters(), *system.buffers()]
    assert {value.dtype for value in tensors if value.is_floating_point()} == {torch.float64}
    assert {id(part) for part in parts(system)} == {id(part) for part in system.modules()}
    batch = lifecycle.first(DATA[name].train)
    batch = batch._replace(x=batch.x.double())
    for stage in system.stages():
        assert stage.bound_of(system, batch).surrogate.dtype == torch.float64


def parts(value: object) -> list[nn.Module]:
    """Every module that pickling a value comes across, whether it is registered with its owner or not."""
    found = {}

    class Seen(pickle.Pickler):
        def persistent_id(self, each: object) -> None:
            if isinstance(each, nn.Module):
                found[id(each)] = each

    Seen(io.BytesIO()).dump(value)
    return list(found.values())


@pytest.mark.parametrize("name", methods.SYSTEMS)
def test_stages_are_plain_data(name):
    """They compare, cannot be changed, and nothing in them refers to a module."""
    for one, other in zip(made(name).stages(), made(name).stages(), strict=True):
        assert one == other
        assert parts(one) == []
        with pytest.raises(FrozenInstanceError):
            one.name = "other"


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_description_says_what_is_shared(name):
    text = SYSTEMS[name].__doc__ or ""
    assert text.count("    spec: shape and support of the data") == 1
    assert text.index("Args:") < text.index("    spec:") < text.index("Example:")


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_system_only_chooses_parts(name):
    """At most twelve lines of code: an equation, or a phase of training, belongs where others find it."""
    function = ast.parse(inspect.getsource(inspect.unwrap(SYSTEMS[name]))).body[0]
    lines = ast.unparse(function.body[1:]).splitlines()
    assert len(lines) <= 12, lines


def test_a_spec_of_its_own_kind_is_kept():
    for name in methods.SYSTEMS:
        system = pickle.loads(pickle.dumps(methods.SYSTEMS[name](DataSpec(methods.event(name)))))
        assert system.recipe.arguments["spec"] == DataSpec(methods.event(name))
