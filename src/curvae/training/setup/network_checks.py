"""The networks of a system, tried on two rows before training starts: what does not fit is said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from curvae import networks
from curvae.data import Data
from curvae.inference import Inference
from curvae.model import LatentVariableModel
from curvae.systems import HasModel, Parts, System
from curvae.systems.device import device_and_dtype, evaluating
from curvae.typing import Batch

ROWS = 2


class Call(NamedTuple):
    """A network at work."""

    name: str
    given: Tensor


def check_networks(system: System, data: Data) -> None:
    """Try decoders and encoders; nothing of the system changes, and no random number is used up.

    Raises:
        ValueError: a network does not take its input, or gives something else than is asked of it.

    Example:
        >>> import curvae, torch
        >>> from curvae.systems import vae
        >>> data = curvae.data.load("digits")
        >>> check_networks(vae(data.spec, latent=2, decoder=torch.nn.Linear(2, 63)), data)
        Traceback (most recent call last):
        ...
        ValueError: decoder: expected (N, 64) from (N, 2), got (N, 63); change its last layer.
    """
    with evaluating(system), torch.random.fork_rng():
        for module in system.modules():
            if isinstance(module, LatentVariableModel) and module.by_latents_alone:
                _try_decoder(module)
        if isinstance(system, HasModel):
            _try_encoders(system, system.parts(), data)


def check_batches(system: nn.Module, rows: int, size: int) -> None:
    """Batches of one row have no variance to normalize by; a single row that is left joins the batch before it.

    Raises:
        ValueError: the system normalizes by batch, and its batches have one row.

    Example:
        >>> check_batches(nn.Sequential(nn.BatchNorm1d(3)), 100, 1)
        Traceback (most recent call last):
        ...
        ValueError: batch_size: expected 2 or more with BatchNorm1d, which normalizes by the rows of a batch, got 1.
    """
    found = next((each for each in system.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)), None)
    if found is not None and min(rows, size) == 1:
        why = f"{type(found).__name__}, which normalizes by the rows of a batch"
        raise ValueError(f"batch_size: expected 2 or more with {why}, got {min(rows, size)}.")


def _try_decoder(model: LatentVariableModel) -> None:
    call = Call("decoder", torch.randn(ROWS, model.prior.size, device=device_and_dtype(model)[0]))
    try:
        out = networks.run_network(model.decoder, call.given)
    except Exception as error:
        raise _refusal(call, error) from error
    _judge(call, out)
    if out.flatten(1).shape[1] != model.outputs:
        wanted, got = _shape(model.outputs), _shape(*out.shape[1:])
        raise ValueError(f"decoder: expected {wanted} from {_takes(call)}, got {got}; change its last layer.")


def _try_encoders(system: System, parts: Parts, data: Data) -> None:
    """Each is judged as it is called; then whether they are for as many latents as the prior has."""
    few = torch.arange(min(ROWS, len(data.train)))
    batch = data.train.take(few).to(device_and_dtype(system)[0]).batch(few)
    batch = Batch.of(batch.x, batch.mask, batch.context)
    under_way: list[Call] = []
    try:
        with _watched(system, under_way):
            center = parts.infer(batch).posterior.center
    except Exception as error:
        if under_way:
            raise _refusal(under_way[-1], error) from error
        _check_parts(parts, batch)
        if isinstance(error, ValueError):
            raise
        return  # no network's fault: training will tell
    _check_size(parts.model, parts.inference, center)


def _check_parts(latent: Parts, batch: Batch) -> None:
    """Which of the methods that inference is made of is for another number of latents, the innermost first."""
    parts = [module for module in latent.inference.modules() if isinstance(module, Inference)]
    for part in reversed(parts[1:]):
        try:
            center = part(latent.model.given(batch.context), batch).posterior.center
        except Exception:  # not this one, or not by itself
            continue
        _check_size(latent.model, part, center)


def _check_size(model: LatentVariableModel, inference: Inference, center: Tensor) -> None:
    size, got = model.prior.size, center.shape[-1]
    if got != size:
        raise ValueError(
            f"encoder: expected what {type(inference).__name__} takes for {size} latent dimensions, as many as the "
            f"prior has, got it for {got}; change its last layer."
        )


@contextmanager
def _watched(system: nn.Module, under_way: list[Call]) -> Iterator[None]:
    """Encoders are in the list while they compute, and are judged when they have."""

    def before(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        under_way.append(Call("encoder", inputs[0]))

    def after(_module: nn.Module, _inputs: tuple[Any, ...], out: Any) -> None:
        _judge(under_way.pop(), out)

    encoders = [module for path, module in system.named_modules() if path.rpartition(".")[2] == "encoder"]
    handles = [module.register_forward_pre_hook(before) for module in encoders]
    handles += [module.register_forward_hook(after) for module in encoders]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _judge(call: Call, out: Any) -> None:
    """Whether it is a finite tensor with a row for each row that was given."""
    name, takes = call.name, _takes(call)
    if not isinstance(out, Tensor):
        raise ValueError(f"{name}: expected a tensor from {takes}, got {type(out).__name__}; return one tensor.")
    if out.ndim < 2 or len(out) != len(call.given):
        got = f"{tuple(out.shape)} from {tuple(call.given.shape)}"
        raise ValueError(f"{name}: expected a row for each row of {takes}, got {got}; return (N, ...).")
    if not bool(out.isfinite().all()):
        raise ValueError(f"{name}: expected finite values from {takes}, got NaN or infinity; check its weights.")


def _refusal(call: Call, error: Exception) -> ValueError:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ValueError(f"{call.name}: expected a network that takes {_takes(call)}, got {reason[:200].rstrip('.')}.")


def _takes(call: Call) -> str:
    return _shape(*call.given.shape[1:])


def _shape(*event: int) -> str:
    return f"({', '.join(['N', *map(str, event)])})"
