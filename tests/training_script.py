"""Runs a fit as a process of its own: python training_script.py OUT toy|vlae CALL DEVICES; it kills itself at CALL."""

import sys
import warnings

import torch

import curvae
from curvae import training
from curvae.systems import System, vlae
from training_toys import Toy, data_of, kill, save_always

EPOCHS, ROWS = 6, 50


def make(kind: str, call: int = 0) -> tuple[System, "curvae.data.Data", dict]:
    """A system that kills its process in that call of its bound, data for it, arguments for fit."""
    torch.manual_seed(3)
    if kind == "toy":
        toy, data = Toy(), data_of(ROWS)
        toy.at = {call: kill}
        return toy, data, {"epochs": EPOCHS, "batch_size": 20, "learning_rate": 0.1}
    data = curvae.data.load("digits")
    system = vlae(data.spec, latent=2, hidden=8, warmup=0.2)
    original, calls = system.bound_by, iter(range(1, 10**9))

    def bound_by(*arguments):  # every call counts, of training and of validation
        return kill(None) if next(calls) == call else original(*arguments)

    system.bound_by = bound_by
    return system, data, {"epochs": EPOCHS, "batch_size": 256}


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    out, kind, call, devices = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    save_always()
    system, data, arguments = make(kind, call)
    training.fit(system, data, **arguments, devices=devices, device="cpu", out=out)
