"""Memory is asked before parameters are allocated."""

from pathlib import Path

import pytest

import methods
from curvae import memory, registry
from curvae.typing import DataSpec


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system that tells what the test writes."""
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  1 kB\nMemAvailable:    2000 kB\n")
    return tmp_path


def limit(machine: Path, most: str, taken: str = "0") -> None:
    (machine / "memory.max").write_text(f"{most}\n")
    (machine / "memory.current").write_text(f"{taken}\n")


def test_what_the_machine_has(machine: Path):
    assert memory.available_bytes() == 2000 * 1024


@pytest.mark.parametrize(
    ("most", "taken", "free"),
    [("1000000", "400000", 600_000), ("1000", "2000", 0), ("max", "5", 2_048_000), ("9000000", "0", 2_048_000)],
)
def test_a_container_may_have_less(machine: Path, most: str, taken: str, free: int):
    limit(machine, most, taken)
    assert memory.available_bytes() == free


def test_systems_without_that_file(machine: Path, monkeypatch: pytest.MonkeyPatch):
    (machine / "meminfo").unlink()
    monkeypatch.setattr(memory.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}[name])
    assert memory.available_bytes() == 40_960
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available_bytes() is None
    memory.require_memory(10**30, "MLP")


def test_as_much_as_there_is_may_be_taken(machine: Path):
    memory.require_memory(512_000, "MLP")
    with pytest.raises(ValueError, match=r"MLP: expected parameters that fit .* got 0.002048 GB where 0.0 GB are free"):
        memory.require_memory(512_001, "MLP")


@pytest.mark.parametrize("name", registry.systems())
def test_no_system_takes_what_is_not_there(name: str):
    """Whichever of its networks comes first."""
    build = registry.system(name)
    spec = DataSpec((1, 2, 4) if name in methods.PICTURES else (8,), "category" if name in methods.TEXTS else "real")
    with pytest.raises(ValueError, match="fit into memory"):
        build(spec, hidden=10**12)
