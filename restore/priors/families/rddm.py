"""RDDM: files of `Trainer.save` (with the average of ema_pytorch), state dicts of one U-Net, of two, of two decoders.

Liu and others, "Residual denoising diffusion models", CVPR 2024. The degraded image joins the state as further
channels, state first.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, get_args

import torch
from torch import Tensor, nn

from restore.bridges import rddm
from restore.bridges.base import Level
from restore.bridges.rddm import Growth, RDDMSchedule
from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint, StoredTensor
from restore.priors.families.base import Case, Family, Record, Weights, arguments, needed, outputs
from restore.priors.families.bridge_network import BridgeNetwork, head_of, times_of
from restore.priors.families.meaning import Meaning, alphas_cumprod
from restore.priors.families.unwrapping import state_dict_in, without_prefix
from restore.priors.nets.rddm_unet import RDDMConfig, SharedUnet, TwoUnets, Unet
from restore.priors.wrappers import wrapper_of

_FORMS = {1: "shared", 0: "two", -1: "one"}  # by share_encoder
_HEADS = {objective: head for head, objective in rddm.HEADS.items()}
_BUFFERS = ("alphas_cumsum", "betas2_cumsum")
_CLOSE = 2e-4
"""What cumulated schedules of one kind differ by in float32: 1000 sums of 1e-3. Kinds differ by 1e-3 and more."""


@dataclasses.dataclass(frozen=True)
class RDDMNetworks:
    """Which networks a file holds and what they are told.

    form: "two" (residual, noise), "one", "shared" (one encoder), "plain" (a bare U-Net of one image). pair: networks
    are told A_t T and B_t T instead of t (experiments 0, 4 and 5). objective: as the released code calls it, "" if not
    said.
    """

    unet: RDDMConfig
    form: str
    pair: bool = False
    objective: str = ""
    timesteps: int = 1000


class RDDM(Family):
    """Residual denoising diffusion models."""

    name = "rddm"
    what = "RDDM U-Nets: one, two, or two decoders, as Trainer.save writes them"
    ignored = frozenset(
        "cls test_res_or_noise img_to_img_translation loss_type sampling_timesteps ddim_sampling_eta image_size "
        "input_condition_mask sum_scale delta_end".split()
    )
    inferred = "widths, levels, channels, how many networks, kind of embedding, schedule (from its buffers)"
    asked = "objective, what the time is (t, or the pair A_t T and B_t T), which images join the state; range"

    def claims(self, found: Checkpoint) -> bool:
        """A 7 x 7 entrance with bias, a time embedding, and weights of norms in the blocks."""
        names = _names(found)
        return any(n.endswith("init_conv.bias") for n in names) and any(
            n.endswith("downs.0.0.block1.norm.weight") for n in names
        )

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The networks', without what the trainer and the diffusion keep beside them. Raises ConfigError."""
        if which not in ("", "ema", "raw"):
            raise ConfigError(f"weights are 'ema' or 'raw', not '{which}'")
        trained = isinstance(found.entry("model"), Mapping)
        if trained and which != "raw" and isinstance(found.entry("ema"), Mapping):
            tensors = found.tensors("ema", prefix="ema_model.")
        elif trained and which != "ema":
            tensors = found.tensors("model")
        elif trained:
            raise ConfigError(f"{found.path}: has no ema weights, but model")
        else:
            tensors = state_dict_in(found, which) or {}
        if any(n.startswith("model.") for n in tensors):
            tensors = {n: t for n, t in tensors.items() if n.startswith("model.")}
        tensors = without_prefix(tensors)
        if not any(n.endswith("init_conv.weight") for n in tensors):
            raise ConfigError(f"{found.path}: holds no U-Net of RDDM (init_conv, time_mlp, downs)")
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """All but which images join the state."""
        kinds = {"final_conv_1.weight": 1, "unet1.init_conv.weight": 0, "unet0.init_conv.weight": -1}  # fmt: skip
        share = next((share for name, share in kinds.items() if name in weights), None)
        inner = {n.removeprefix("unet0."): t.shape for n, t in weights.items()}
        dim = inner["time_mlp.1.weight"][0] // 4
        levels = 1 + max(int(m[1]) for n in inner if (m := re.match(r"downs\.(\d+)\.", n)))
        widths = [inner[f"downs.{i}.3.weight"][0] for i in range(levels)]
        found: dict[str, Any] = {
            "dim": dim, "dim_mults": [w // dim for w in widths],
            "learned_sinusoidal_cond": "time_mlp.0.weights" in inner,
        }  # fmt: skip
        if "time_mlp.0.weights" in inner:
            found["learned_sinusoidal_dim"] = 2 * inner["time_mlp.0.weights"][0]
        if share is not None:
            found["share_encoder"] = share
        return found

    def config(self, record: Record) -> RDDMNetworks:
        """From {"unet": ..., "diffusion": ..., "time": ...}, or from one row of arguments. Raises ConfigError."""
        for name in ("unet", "diffusion"):
            if not isinstance(record.get(name, {}), Mapping):
                raise ConfigError(f"{name} is {record[name]!r}, expected the arguments by name")
        flat = {k: v for k, v in record.items() if k not in ("unet", "diffusion", "time", "cls")}
        values = {**flat, **dict(record.get("unet", {}))}
        diffusion = {k: v for k, v in dict(record.get("diffusion", {})).items() if k in _DIFFUSION}
        said = {k: values.pop(k) for k in _DIFFUSION if k in values} | diffusion
        count, share = values.pop("num_unet", None), values.pop("share_encoder", None)
        form = {2: "two", 1: "one"}.get(count) if count is not None else _FORMS.get(share)
        if record.get("cls") == "Unet" or (count is None and share is None):
            form = "plain"
        if form is None:
            raise ConfigError(
                f"share_encoder is {share}, num_unet {count}; there are share_encoder 0 (two networks), 1 (one "
                "encoder, two decoders), -1 (one network), or num_unet 1 or 2"
            )
        time = str(record.get("time", "" if count is not None else "t"))
        if not time.startswith(("t", "pair")):
            raise ConfigError(
                "time is not said, and networks of num_unet are told t or the pair (A_t T, B_t T): say time='t', or "
                "time='pair' as in experiments 0, 4 and 5"
            )
        unet = arguments(RDDMConfig, values, self.ignored)
        objective, steps = said.get("objective", ""), said.get("timesteps", 1000)
        if objective not in ("", *_HEADS) or type(steps) is not int or steps < 2:
            raise ConfigError(
                f"objective is {objective!r}, timesteps {steps!r}; expected 2 or more and one of {', '.join(_HEADS)} "
                "(of an automatic objective the one that training decided for)"
            )
        return RDDMNetworks(unet, form, time.startswith("pair"), objective, steps)

    def network(self, config: RDDMNetworks) -> nn.Module:
        """The networks under their official names."""
        if config.form == "plain":
            return Unet(config.unet)
        if config.form == "shared":
            return SharedUnet(config.unet)
        return TwoUnets(config.unet, 2 if config.form == "two" else 1)

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """The schedule, from the buffers that the diffusion keeps beside the networks."""
        tree = found.entry("model")
        buffers = [tree.get(n) for n in _BUFFERS] if isinstance(tree, Mapping) else [None]
        if not all(isinstance(b, StoredTensor) for b in buffers):
            return Meaning()
        return Meaning(schedule=schedule_of(*(b.read() for b in buffers)))  # type: ignore[union-attr]

    def kind(self, config: RDDMNetworks) -> str:
        """A conditional model; a bare U-Net of one image is a denoiser."""
        return "denoiser" if config.form == "plain" and not config.unet.condition else "conditional"

    def unstated(self, config: RDDMNetworks, meaning: Meaning) -> list[str]:
        """Range and schedule, and the objective where the settings do not say it."""
        missing = needed(meaning, "range")
        if self.kind(config) == "denoiser":
            missing += needed(meaning, "schedule", "prediction")
            return missing + (needed(meaning, "complex_mode") if config.unet.channels in (1, 2) else [])  # fmt: skip
        missing += needed(meaning, "schedule")
        return missing + ([] if config.objective else needed(meaning, "prediction"))

    def model(self, network: nn.Module, config: RDDMNetworks, meaning: Meaning, name: str) -> Any:
        """The chain's network; of a bare U-Net a denoiser. Raises ConfigError for images that nobody has."""
        if config.unet.input_condition:
            raise ConfigError(
                f"{name}: input_condition asks for a third image (a shadow mask) beside state and degraded image, "
                "which no sampler here has; such weights can be converted and checked only"
            )
        if self.kind(config) == "denoiser":
            assert meaning.range is not None  # noqa: S101  (for the type checker: see `unstated`)
            return wrapper_of(meaning.prediction, name)(
                network, alphas_cumprod(meaning.schedule), channels=config.unet.channels, trained=meaning.range,
                complex_mode=meaning.complex_mode or "separate", multiple=config.unet.multiple, name=name,
            )  # fmt: skip
        return RDDMModel(network, config, meaning, name)

    def replay(
        self, network: nn.Module, config: RDDMNetworks, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Outputs NAME_out0, NAME_out1 of the file's name, `out0`, `out1`, or `out`, in this reading of the time."""
        stem, _, which = source.partition(":")
        reading = f"{stem.partition('_')[0]}_exp0class" if config.pair and config.form == "two" else stem  # fmt: skip
        heads = {f"{reading}_{which}", f"{stem}_{which}", stem, "out", ""}
        if reading != stem:
            heads -= {f"{stem}_{which}"}
        for output, reference in outputs(arrays).items():
            m = re.fullmatch(r"(.*?)_?(?:out(\d))?(?:_f\d\d)?", output)
            if m is None or m[1] not in heads:
                continue
            k = int(m[2] or 0)
            yield Case(output, reference, lambda k=k: _replayed(network, config, arrays)[k])  # type: ignore[misc]


_DIFFUSION = ("objective", "timesteps")


class RDDMModel(BridgeNetwork):
    """The network of an RDDM chain."""

    def __init__(
        self, network: nn.Module, config: RDDMNetworks, meaning: Meaning, name: str
    ) -> None:
        head = head_of(_HEADS.get(config.objective, meaning.prediction), tuple(rddm.HEADS))
        answers = 2 if config.form in ("two", "shared") else 1
        if len(head.split("+")) != answers:
            raise ConfigError(
                f"{name}: objective '{config.objective or meaning.prediction}' has {len(head.split('+'))} answers, "
                f"these networks give {answers}"
            )
        super().__init__(
            network, channels=config.unet.channels, head=head, bridge="rddm", meaning=meaning, name=name,
            multiple=config.unet.multiple,
        )  # fmt: skip
        self.config = config

    def _answers(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        config, scale = self.config, self.config.timesteps
        told = ((1 - level.a) * scale, level.c * scale) if config.pair else (level.t, level.t)
        given = torch.cat([x, degraded], dim=1) if config.unet.condition else x
        return _called(self.network, config, given, *(times_of(x, t) for t in told))


def _called(
    network: nn.Module, config: RDDMNetworks, x: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, ...]:
    """The answers to an input (N, given, h, w) and the two times, (N,) each."""
    if config.form == "two":
        return tuple(network(x, first, second))
    alone = second if config.pair and config.objective == "pred_noise" else first
    answers = network(x, alone)
    return (answers,) if isinstance(answers, Tensor) else tuple(answers)


def _replayed(
    network: nn.Module, config: RDDMNetworks, arrays: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """The answers to stored inputs: `x`, `x_input` and `x_self_cond` (or `x_input` for it), `t` and `t_float`."""
    x, beside = arrays["x"], arrays.get("x_input", arrays.get("cond"))
    before = arrays.get("x_self_cond", beside) if config.unet.self_condition else None
    parts = (before, x, beside if config.unet.condition else None)
    given = torch.cat([p for p in parts if p is not None], dim=1)
    learned = config.unet.learned_sinusoidal_cond or config.unet.random_fourier_features
    t = arrays.get("t", arrays.get("time"))
    fractional = arrays.get("t_float", t)
    assert t is not None  # noqa: S101  (for the type checker)
    assert fractional is not None  # noqa: S101
    first = fractional if learned else t
    times = [v.to(x).reshape(-1).expand(len(x)) for v in (first, fractional if config.pair else first)]  # fmt: skip
    return _called(network, config, given, *times)


def schedule_of(alphas_cumsum: Tensor, betas2_cumsum: Tensor) -> str:
    """The schedule in words whose cumulated factors these are; "" where none is."""
    steps, scale = len(alphas_cumsum), float(betas2_cumsum[-1])
    kinds = [(kind, p) for kind in get_args(Growth) for p in (None, 1.0)]
    kinds = [(k, p) for k, p in kinds if p is None or k in ("increased", "decreased")]
    for (alpha, pa), (beta, pb) in product(kinds, kinds):
        total = 1.0 if beta == "ddpm" else min(round(scale, 6), 1.0)
        found = RDDMSchedule(steps, total, alpha, beta, pa, pb)
        off = torch.cat([found.A - alphas_cumsum.double(), found.B2 - betas2_cumsum.double()])
        if off.abs().max() < _CLOSE:
            words = (k if p is None else f"{k}^{p:g}" for k, p in ((alpha, pa), (beta, pb)))
            return f"rddm:{':'.join(words)}:{total:g}:{steps}"
    return ""


def _names(found: Checkpoint) -> list[str]:
    """Names of tensors in the file and in the entries of a trainer."""
    tree = [found.tree, *(found.entry(k) for k in ("model", "ema", "state_dict"))]
    return [n for t in tree if isinstance(t, Mapping) for n in t]


FAMILY = RDDM()
