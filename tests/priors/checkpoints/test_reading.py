"""Files of weights that others wrote are read to the bit, and nothing in them is executed."""

from __future__ import annotations

import collections
import json
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from restore.errors import InputError, NotFoundError
from restore.pipelines.model_check import replay
from restore.pipelines.model_files import Conversion, convert
from restore.priors.checkpoints import pickles
from restore.priors.checkpoints.content import Opaque, StoredTensor, leaves
from restore.priors.checkpoints.reading import read_checkpoint
from restore.priors.families.known import family_of

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"


def tensors(path: Path) -> dict[str, Tensor]:
    found = read_checkpoint(path)
    return {".".join(p): v.read() for p, v in leaves(found.tree) if isinstance(v, StoredTensor)}


def sample(generator: torch.Generator) -> dict[str, Tensor]:
    whole = torch.randn(6, 4, generator=generator)
    return {
        "plain": whole, "view": whole[1:4, ::2], "turned": whole.T, "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3), "half": whole.half(), "bfloat": whole.bfloat16(), "double": whole.double(),
        "whole": torch.arange(5), "small": torch.arange(5, dtype=torch.int8), "yes": torch.tensor([True, False]),
        "complex": torch.complex(whole, -whole), "parameter": torch.nn.Parameter(whole + 1),
    }  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
def test_both_forms_of_torch_are_read_to_the_bit(
    zipped: bool, generator: torch.Generator, tmp_path: Path
):
    stored = sample(generator)
    path = tmp_path / "x.pt"
    torch.save(
        {"state_dict": collections.OrderedDict(stored), "step": 7, "list": [stored["half"], 1.5]},
        path, _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    found = read_checkpoint(path)
    assert found.form == ("torch file (zip)" if zipped else "torch file (older form)")
    assert found.tree["step"] == 7
    for name, value in stored.items():
        read = found.tree["state_dict"][name].read()
        assert read.dtype == value.dtype
        assert read.shape == value.shape
        assert torch.equal(read, value.detach())
    assert torch.equal(found.tree["list"][0].read(), stored["half"])


@pytest.mark.parametrize(
    "name", ["adm/adm_additive_convresample.pt", "ncsnpp/checkpoint_ve_continuous.pth"]
)
def test_published_files_read_as_torch_reads_them(name: str):
    reference = torch.load(GOLDEN / name, weights_only=True)
    ours = tensors(GOLDEN / name)
    theirs = {".".join(p): v for p, v in leaves(_plain(reference)) if isinstance(v, Tensor)}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


class Callback:
    """What a training code keeps with its weights: a class that nobody else has."""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
def test_objects_of_classes_are_left_unbuilt(zipped: bool, tmp_path: Path):
    weight = torch.arange(3.0)
    path = tmp_path / "x.ckpt"
    content = {
        "callbacks": {Callback: {"best": Callback()}}, "state_dict": {"w": weight}, "lr": np.float64(1e-4),
        "names": {"a", "b"}, "where": Path("x"), "type": torch.float16,
    }  # fmt: skip
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path)
    assert torch.equal(found.tensors("state_dict")["w"].read(), weight)
    (key,) = found.tree["callbacks"]
    assert key.endswith("Callback>")
    assert isinstance(found.tree["callbacks"][key]["best"], Opaque)
    assert isinstance(found.tree["lr"], Opaque)


class Trap:
    """Runs a program when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, (f"touch {self.mark}",)


def test_nothing_is_executed(tmp_path: Path):
    mark, path = tmp_path / "mark", tmp_path / "x.pt"
    torch.save({"w": torch.ones(2), "trap": Trap(mark)}, path)
    found = read_checkpoint(path)
    assert isinstance(found.tree["trap"], Opaque)
    assert found.tree["trap"].name in ("posix.system", "nt.system", "os.system")
    assert not mark.exists()


def exploding() -> bytes:
    """Ten lists within each other, each ten times in the next: ten thousand million numbers from 200 bytes."""
    value: object = [1]
    for _ in range(10):
        value = [value] * 10
    return pickle.dumps({"x": value})


def endless() -> bytes:
    value: list[object] = []
    value.append(value)
    return pickle.dumps({"x": value})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "too short"),
        (b"short", "too short"),
        (b"no weights at all, just text", "no file of torch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS"),
        (b"PK\x03\x04 broken archive here", "damaged file"),
        (pickle.dumps({"x": 1})[:-3], "pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fabcdefgh", "pickle"),
        (b"\x80\x02}q\x00(X\x01\x00\x00\x00\x62U\xc8", "pickle"),
        pytest.param(exploding(), "too many objects", marks=pytest.mark.slow),
        (endless(), "without end"),
        (struct.pack("<Q", 1 << 40) + b"{" + b"x" * 20, "safetensors"),
    ],
    ids=[
        "nothing", "five bytes", "text", "pointer of LFS", "broken zip", "cut", "claims 2 GB", "nonsense",
        "explosion", "circle", "claims a large header",
    ],
)  # fmt: skip
def test_what_is_no_file_of_weights_is_refused(content: bytes, words: str, tmp_path: Path):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_checkpoint(path)


def test_other_archives_are_refused(tmp_path: Path):
    for name, words in (("a/code.txt", "no data.pkl"), ("a/constants.pkl", "TorchScript")):
        path = tmp_path / "x.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"")
            if "constants" in name:
                archive.writestr("a/data.pkl", pickle.dumps({}))
        with pytest.raises(InputError, match=words):
            read_checkpoint(path)
    with pytest.raises(NotFoundError):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="no folder of diffusers"):
        read_checkpoint(tmp_path)


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path):
    """A file whose pickle claims more than its entry holds."""
    path, cut = tmp_path / "x.pt", tmp_path / "cut.pt"
    torch.save({"w": torch.arange(100.0)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(cut, "w") as damaged:
        for entry in whole.infolist():
            content = whole.read(entry)
            damaged.writestr(
                entry.filename, content[:80] if "/data/" in entry.filename else content
            )
    with pytest.raises(InputError, match="beyond its numbers"):
        read_checkpoint(cut)


def test_safetensors_are_read(tmp_path: Path, generator: torch.Generator):
    stored = {"a.b": torch.randn(2, 3, generator=generator), "c": torch.arange(4)}
    save_file(stored, tmp_path / "x.safetensors")
    found = read_checkpoint(tmp_path / "x.safetensors")
    assert found.form == "safetensors"
    assert all(torch.equal(found.tensors()[n].read(), t) for n, t in stored.items())


def test_any_file_becomes_plain_tensors(tmp_path: Path, generator: torch.Generator):
    weight = torch.randn(3, 2, generator=generator)
    torch.save(
        {"callbacks": {Callback: 1}, "state_dict": {"model.w": weight.half(), "b": torch.ones(2)}},
        tmp_path / "few.ckpt",
    )
    convert(Conversion(tmp_path / "few.ckpt", "tensors", tmp_path / "few.safetensors"))
    np.savez(
        tmp_path / "io.npz", **{"few_model.w": weight.numpy(), "few_b": np.ones(2, np.float32)}
    )
    found = replay(tmp_path / "few.safetensors", tmp_path / "io.npz")
    assert {c.output for c in found.compared} == {"few_model.w", "few_b"}
    assert all(c.same for c in found.compared)


class Attributes(dict):  # type: ignore[type-arg]
    """A dictionary class, as training codes keep settings in."""


class Persistent:
    """Pickled the way EDM's snapshots are: by a function that is given the source text of the class."""

    def __init__(self, kind: str, state: dict[str, object]) -> None:
        self.kind, self.state = kind, state

    def __reduce__(self) -> tuple[object, ...]:
        meta = Attributes(
            type="class",
            version=6,
            module_src="raise SystemExit",
            class_name=self.kind,
            state=self.state,
        )
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def nested(state: dict[str, Tensor], kind: str, settings: dict[str, object]) -> Persistent:
    """Modules within each other, as a state dict names them."""
    inner: dict[str, dict[str, Tensor]] = {}
    own: dict[str, object] = {}
    for name, value in state.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            own[name] = torch.nn.Parameter(value, requires_grad=False)
    modules = {k: nested(v, "Layer", {}) for k, v in inner.items()}
    return Persistent(
        kind, {"_parameters": own, "_buffers": {}, "_modules": modules, "_init_kwargs": settings}
    )


def test_a_snapshot_of_edm_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Settings and weights come out of a snapshot whose official loading runs the source text in it."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: object) -> None:
        raise AssertionError("executed")

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    state = torch.load(GOLDEN / "edm" / "songunet_ddpmpp.pt", weights_only=True)
    settings = json.loads((GOLDEN / "edm" / "config.json").read_text())["files"][
        "songunet_ddpmpp.pt"
    ]
    del settings["evaluated_under"]
    path = tmp_path / "songunet_ddpmpp.pkl"
    with path.open("wb") as stream:
        pickle.dump({"ema": nested(state, "EDMPrecond", settings), "loss_fn": Callback()}, stream)
    found = read_checkpoint(path)
    family = family_of("edm")
    assert family.claims(found)
    weights = family.weights(found, "")
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[n].read(), state[n]) for n in state)
    made = convert(Conversion(path, "edm", tmp_path / "x.safetensors"))
    assert made.config.precond == "EDMPrecond"
    checked = replay(tmp_path / "x.safetensors", GOLDEN / "edm" / "io.npz")
    assert len(checked.compared) >= 3
    assert all(c.same for c in checked.compared)


def test_limits_that_are_lower_already_stay(tmp_path: Path):
    """A process that may use little memory can start another with no more."""
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
    program = Path(pickles.__file__)
    command = f"ulimit -v {1 << 20}; exec {sys.executable} -I {program} {tmp_path / 'x.pt'}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert json.loads(done.stdout)["form"] == "torch file (zip)"


def test_the_walk_costs_no_more_than_the_file(tmp_path: Path):
    """Only the entries that are asked for are read: a large one that nobody wants is not."""
    path = tmp_path / "x.pt"
    torch.save({"want": torch.ones(3), "other": torch.zeros(1 << 20)}, path)
    found = read_checkpoint(path)
    with path.open("r+b") as stream:  # the large storage is gone; the small one lies before it
        stream.truncate(found.tree["want"].read.place["at"] + 12)
    assert torch.equal(found.tree["want"].read(), torch.ones(3))
    with pytest.raises(InputError, match="ends too early"):
        found.tree["other"].read()
