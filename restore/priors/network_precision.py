"""Whether the networks of a model may compute in half precision for one run, and what has to be said of it.

Called by `choosing` alone. The word and the device say what would be quick (`restore.precision`); the model says
whether it was measured to answer as well, the run whether it can do with fewer digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.precision import is_emulated, resolve, word_of
from restore.priors.base import Denoiser
from restore.priors.cascade import CascadeModel
from restore.priors.conditional import ConditionalModel
from restore.priors.latent import LatentModel
from restore.priors.networks import networks_in

Model = Denoiser | ConditionalModel | LatentModel | CascadeModel


def precision_for(
    model: Model, word: str, like: Tensor, gradients: bool
) -> tuple[torch.dtype, tuple[str, ...]]:
    """The precision inside the networks, float32 for "as they are", and notes.

    "auto" goes below single precision for models that say so (`halves`), measurements in single precision, and
    samplers that do not differentiate the network. like: a tensor of the run; gradients: the run differentiates.
    Raises ConfigError for an unknown word, and for float16 where gradients would vanish in it.
    """
    dtype = resolve(word, like.device)
    if word == "auto" and (gradients or not model.halves or _is_double(like)):
        dtype = torch.float32
    if dtype == torch.float32:
        return dtype, ()
    if not any(p.dtype == torch.float32 for n in networks_in(model) for p in n.parameters()):
        said = f"the prior '{model.name}' has no network in float32: --precision {word} changes nothing"
        return torch.float32, (said,)
    if gradients and dtype == torch.float16:
        raise ConfigError(
            "precision float16: this sampler follows gradients through the network, and small ones vanish in its "
            "range; use bfloat16 or float32"
        )
    if not is_emulated(dtype, like.device):
        return dtype, ()
    what = "processor" if like.device.type == "cpu" else "device"
    return dtype, (
        f"this {what} only emulates {word_of(dtype)}, which is slower than float32 and rounds in another order than "
        "one that has it: the last digits may differ",
    )


def _is_double(like: Tensor) -> bool:
    return like.dtype in (torch.float64, torch.complex128)
