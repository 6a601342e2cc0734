"""A converted network and its converted autoencoder made one model: ResShift's two files as the prior that they are.

The work of `restore models join`. Reads both weight files, writes one with its card.
"""

from __future__ import annotations

from pathlib import Path

import restore
from restore.datasets.json_text import plain
from restore.errors import ConfigError, OutputError
from restore.priors.converted import Converted, is_converted
from restore.priors.families.known import family_of
from restore.priors.families.meaning import meaning_from
from restore.priors.store import SCHEMA, kind_of, load_tensors, read_card, write_card, write_tensors

FAMILY = "resshift"
"""The one family whose networks and autoencoders are files of their own."""


def join_models(
    network: Path, autoencoder: Path, out: Path, *, overwrite: bool = False
) -> Converted:
    """Write both under OUT with a card.

    Raises WeightsError (a file that is no model), ConfigError (not a U-Net and an autoencoder of ResShift, or such that
    do not belong together), OutputError.
    """
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: expected a name that ends in .safetensors")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists; choose another name or say --overwrite")
    if out.resolve() in (network.resolve(), autoencoder.resolve()):
        raise OutputError(f"{out} is an input; choose another name")
    for path, kinds in ((network, ("part", "conditional")), (autoencoder, ("autoencoder",))):
        card = read_card(path)
        if not is_converted(card) or card["architecture"] != FAMILY or kind_of(path) not in kinds:
            raise ConfigError(
                f"{path}: is no converted {kinds[-1]} of {FAMILY}; join takes a network, then its autoencoder, both "
                "made by `restore models convert --kind resshift`"
            )
    (one, first), (two, second) = load_tensors(network), load_tensors(autoencoder)
    settings = {"unet": one["settings"], "autoencoder": two["settings"]}
    meaning = meaning_from(one["meaning"]).over(meaning_from(two["meaning"]))
    family = family_of(FAMILY)
    made = Converted(family, family.config(settings), meaning, out.stem)
    tensors = {f"model.{n}": t for n, t in first.items()}
    tensors |= {f"autoencoder.{n}": t for n, t in second.items()}
    digest = write_tensors(out, tensors)
    licences = sorted({str(c.get("licence", "")) for c in (one, two)})
    write_card(out, {
        "name": out.stem, "schema": SCHEMA, "architecture": FAMILY, "kind": made.kind,
        "settings": plain(settings, "settings"), "meaning": plain(meaning.record(), "meaning"),
        "source": {"network": one.get("source"), "autoencoder": two.get("source")},
        "parameters": sum(t.numel() for t in tensors.values()), "licence": "; ".join(licences),
        "converted": f"restore {restore.__version__}", "sha256": digest,
    })  # fmt: skip
    return made
