"""Two processes give what one gives with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import curvae
from curvae import training
from curvae.training.loop.loader import rank_part
from training_script import make
from training_toys import Toy

SCRIPT = Path(__file__).parent.parent / "training_script.py"


def test_two_processes_agree_with_one(tmp_path: Path):
    """50 rows in batches of 20: the last one has 10; state and the table by datum included."""
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "two"), "toy", "0", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    system, data, arguments = make("toy")
    one = training.fit(system, data, **arguments, device="cpu", out=tmp_path / "one")
    two = training.load(tmp_path / "two", system=Toy())
    for name, value in system.state_dict().items():
        if name != "seen":  # a statistic of the process's part: that of the first holds
            torch.testing.assert_close(two.state_dict()[name], value, atol=1e-5, rtol=0)
    rows, others = one.metrics(), curvae.RunFolder.open(tmp_path / "two").metrics()
    for name in rows.keys() - {"seconds", "stage"}:
        ours, theirs = (torch.tensor(found[name]) for found in (rows, others))
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-5)


def test_weights_of_the_parts_add_up_to_the_global_mean():
    values = torch.arange(7.0)
    for world in (1, 2, 3, 9):
        parts = [rank_part(values, rank, world) for rank in range(world)]
        assert sum(rows.mean() * share for rows, share in parts) / world == values.mean()
        assert all(len(rows) >= 2 for rows, _ in parts)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_no_process_gets_a_single_row_of_more(count: int):
    rows = torch.arange(count)
    for world in (2, 3, 4):
        parts = [rank_part(rows, rank, world) for rank in range(world)]
        assert all(len(mine) >= min(2, count) for mine, _ in parts)
        assert torch.cat([mine for mine, share in parts if share]).equal(rows)
