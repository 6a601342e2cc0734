"""Pages of the site for the priors that come with the package: what their cards say, and what they draw.

Called by the hooks of the site and by its tests. Pictures and figures are those of `restore sample`, which `make
pictures` draws anew into docs/drawn. Knows nothing of the builder of the site.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reference import table

from restore.pipelines.prior_draws import why_not
from restore.priors.store import bundled, kind_of, read_card
from restore.priors.traits import card_traits

DRAWN = Path(__file__).resolve().parents[1] / "drawn"
COUNT, SIZE = 4, 96
"""Draws that a page shows, and their side in pixels."""


def prior_pages() -> dict[str, str]:
    """Path below docs/ to Markdown: `bundled-priors/NAME.md`, and `bundled-priors/index.md` with a table of all."""
    names = [*bundled()]
    pages = {f"bundled-priors/{name}.md": _page(name) for name in names}
    rows = [
        [
            f"[{n}]({n}.md)",
            kind_of(n),
            str(read_card(n)["parameters"]),
            str(read_card(n)["licence"]),
        ]
        for n in names
    ]
    head = (
        "# Bundled priors\n\nTheir whole cards: `restore models show NAME`. Of your own: "
        "[Priors of your own and of others](../priors.md).\n\n"
    )
    pages["bundled-priors/index.md"] = head + table(
        ["prior", "kind", "parameters", "licence"], rows
    )
    return pages


def _page(name: str) -> str:
    card, traits = read_card(name), card_traits(name)
    low, high = traits.sigma_range
    known = [
        ["channels", str(traits.channels)],
        [
            "noise that it knows",
            f"{low:g} to {high:g}, of images in {traits.intensity[0]:g}..{traits.intensity[1]:g}",
        ],
    ]
    if traits.acquisition is not None:
        known = [["trained for", str(traits.acquisition)]]
    facts = [
        ["kind", traits.kind],
        *known,
        ["parameters", f"{card['parameters']:,}"],
        ["held out", str(card.get("held_out", ""))],
        ["licence", str(card["licence"])],
        ["sha256", f"`{card['sha256'][:16]}...`"],
    ]  # fmt: skip
    learnt = "\n".join(f"- {part['images']} {part['source']}" for part in card["data"])
    parts = [
        f"# {name}",
        table(["", ""], facts),
        "## What it learnt from",
        learnt,
        "## What it draws",
    ]
    return "\n\n".join([*parts, *_draws(name)]) + "\n"


def _draws(name: str) -> list[str]:
    reason = why_not(card_traits(name))
    if reason:
        return [f"Nothing: `{name}` {reason}."]
    record: dict[str, Any] = json.loads((DRAWN / f"{name}.json").read_text(encoding="utf-8"))
    figures = record["figures"]
    said = (
        f"{record['count']} pictures of {record['size'][0]} x {record['size'][1]} from noise alone, seed "
        f"{record['seed']}, {record['evaluations']} network evaluations each: mean {figures['mean']:.3f}, deviation "
        f"{figures['deviation']:.3f}, {100 * figures['share_outside_range']:.1f} % of the values outside its range. "
        "What a prior draws it will also fill gaps with."
    )
    command = f"    restore sample --prior {name} --count {COUNT} --size {SIZE} -o {name}.jpg"
    return [command, f"![Draws from {name}](../drawn/{name}.jpg)", said]
