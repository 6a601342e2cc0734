"""`particles` beside `dds` on two photographs with 70 % of the pixels missing: what selection and averaging are worth.

    python benchmarks/particles.py ../shared/data    # the table of docs/choosing-a-sampler.md; four minutes

Seconds are of the processor, one thread. ess: the mean over the levels of the effective size of four particles.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import Any

from cases import load

from restore.front_door import solve

IMAGES, PARTICLES = 2, 4
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "dds": ("dds", {}),
    "dds, mean of 4 samples": ("dds", {"samples": PARTICLES}),
    **{
        f"particles, temperature {t:g}": ("particles", {"particles": PARTICLES, "temperature": t})
        for t in (1.0, 30.0, 1000.0)
    },
}


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder of data that compare.py takes")
    cases = list(islice(load(parser.parse_args().data, "inpaint"), IMAGES))
    print(f"| method | {' | '.join(case.name for case in cases)} | ess | evaluations | seconds |")
    print("| --- " * (len(cases) + 4) + "|")
    for method, (name, settings) in METHODS.items():
        start, figures, sizes, calls = time.process_time(), [], [], 0
        for case in cases:
            found = solve(
                case.y, case.operator, noise=case.noise, scaling=case.scaling, sampler=name, **settings
            )  # fmt: skip
            figures.append("{:.2f} / {:.3f}".format(*case.score(found.image)))
            sizes += [record["ess"] for record in found.log if "ess" in record]
            calls = sum(record["evaluations"] for record in found.ends)
        ess = f"{sum(sizes) / len(sizes):.1f}" if sizes else "-"
        seconds = (time.process_time() - start) / len(cases)
        print(f"| {method} | {' | '.join(figures)} | {ess} | {calls} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
