"""Which stored outputs belong to which network of diffusers. Used by `diffusers.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from restore.priors.families.base import Case, beside, outputs
from restore.priors.nets.diffusers_unet import UNet2DConditionConfig, UNet2DConfig
from restore.priors.nets.diffusers_vae import VAEConfig


def cases(network: nn.Module, config: Any, arrays: Mapping[str, Tensor]) -> Iterator[Case]:
    """The outputs of a network: `*unet*` by inputs and shapes, `kl_*` and `vq_*` of autoencoders, or out."""
    if isinstance(config, VAEConfig):
        yield from _codes(network, config, arrays)
        return
    for output, reference in outputs(arrays).items():
        if "unet" not in output and not output.startswith("out"):
            continue
        inputs = _inputs(config, arrays, output)
        shape = (
            None if inputs is None else (len(inputs[0]), config.out_channels, *inputs[0].shape[2:])
        )
        if (
            inputs is None
            or tuple(reference.shape) != shape
            or ("sd" in output.split("_")) != isinstance(config, UNet2DConditionConfig)
        ):
            continue
        yield Case(output, reference, lambda i=inputs: network(*i))  # type: ignore[misc]


def _inputs(
    config: UNet2DConfig | UNet2DConditionConfig, arrays: Mapping[str, Tensor], output: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None] | None:
    """Image, times, classes and context; None where one is missing."""
    names = ("x", f"x{config.in_channels}")
    found = (arrays[n] for n in names if n in arrays and arrays[n].shape[1] == config.in_channels)
    x, t = next(found, None), beside(arrays, output, "t")
    y = context = None
    if config.num_class_embeds is not None or config.class_embed_type is not None:
        y = beside(arrays, output, "labels", "y")
        if y is None:
            return None
    if isinstance(config, UNet2DConditionConfig):
        context = beside(arrays, output, "ctx", "context")
        if context is None:
            return None
    if x is None or t is None:
        return None
    return x, t.reshape(-1).expand(len(x)), y, context


def _codes(network: Any, config: VAEConfig, arrays: Mapping[str, Tensor]) -> Iterator[Case]:
    img = arrays.get("img")
    if img is None or img.shape[1] != config.in_channels:
        return
    computed: dict[str, Any] = {}
    if config.quantised:
        z = arrays.get("vq_latents_f64")
        computed = {"vq_latents": lambda: network.moments(img)[0]}
        if z is not None:
            computed |= {
                "vq_quant": lambda: network.quantize(z), "vq_decode": lambda: network.decode(z),
                "vq_decode_noquant": lambda: network.decode(z, quantise=False),
            }  # fmt: skip
            indices = arrays.get("vq_indices")
            if indices is not None:
                yield Case("vq_indices", indices.flatten(), lambda: network.quantize.nearest(z))
    else:
        z = arrays.get("z", arrays.get(f"x{config.code_channels}"))
        computed = {
            "kl_mean": lambda: network.moments(img)[0],
            "kl_logvar": lambda: network.moments(img)[1],
        }
        if z is not None:
            computed["kl_decode"] = lambda: network.decode(z)
    for output, reference in outputs(arrays).items():
        name = output.rpartition("_")[0]
        if name in computed:
            yield Case(output, reference, computed[name])
