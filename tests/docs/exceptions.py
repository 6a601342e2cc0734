"""Blocks of the documentation that no test runs, each with its reason: what `test_every_block` holds the pages to."""

from __future__ import annotations

from docs.pages import Block

NOT_RUN = {
    (
        "docs/engines.md",
        "restore recon SCANS/",
    ): "tests/many has the engines on small lists, Ray among the services",
    ("docs/places.md", "mkdir"): "what a user of Slicer does once; the verb beneath is run",
    (
        "docs/places.md",
        "pip install",
    ): "napari and its window; tests marked services run the plugin",
    ("README.md", "make demo"): "sets up the environment in which the tests run; CI does both",
    ("docs/benchmarking.md", "4x          volumes"): "what a command prints",
    (
        "docs/benchmarking.md",
        "#!/bin/bash",
    ): "a job of a cluster; tests/bench has parts",
    (
        "docs/choosing-a-sampler.md",
        "build/peers",
    ): "needs the peers' environment and hours; benchmarks/README.md",
    (
        "docs/choosing-a-sampler.md",
        "OMP_NUM_THREADS",
    ): "a benchmark of minutes to hours on whole photographs",
    ("docs/few-steps.md", "OMP_NUM_THREADS"): "a benchmark of minutes on photographs",
    (
        "docs/choosing-a-sampler.md",
        "restore train rad",
    ): "a training of minutes, of a prior of the reader's own; tests/training/test_region.py has a short one",
    (
        "docs/chosen-starts.md",
        "OMP_NUM_THREADS",
    ): "a benchmark of minutes on whole photographs",
    (
        "docs/fetching.md",
        "restore data fetch",
    ): "fetches from the network; test_fetch.py has a server",
    ("docs/install.md", "make demo"): "sets up the environment in which the tests run; CI does it",
    ("docs/install.md", "pip install"): "make package does the same in an empty environment",
    (
        "docs/interop.md",
        "A = from_sigpy",
    ): "a line of each library, names not given; tests/operators/interop",
    ("docs/interop.md", "spokes"): "goes on from the example of the README, which is run",
    ("docs/memory.md", "memory: about"): "what a command prints",
    ("docs/mrd-server.md", "docker build"): "needs Docker; the server it starts is run without",
    (
        "docs/priors.md",
        "restore models convert 256x256",
    ): "weights of others; families have small ones in tests",
    (
        "docs/priors.md",
        "restore models convert mri-knee",
    ): "weights of others; families have small ones in tests",
    (
        "docs/priors.md",
        "restore models convert ddpm-church",
    ): "weights of others; families have small ones in tests",
    (
        "docs/structured-noise.md",
        "OMP_NUM_THREADS",
    ): "a benchmark of minutes on volumes, and a training of 38",
    (
        "docs/training.md",
        "torchrun",
    ): "several processes; tests/training/test_workers.py starts two",
}
"""Page and how the block begins."""

SCRIPTS = ("benchmarks/", "CONTRIBUTING.md", "ARCHITECTURE.md")
"""Pages whose blocks are scripts of minutes to hours on data beside the checkout, targets of make that CI runs or does
not, and drawings of the house: their commands are held to what there is, and not run."""


def not_run(block: Block) -> str:
    """The reason why a block is not run, or nothing."""
    for (page, begins), reason in NOT_RUN.items():
        if block.page == page and block.text.startswith(begins):
            return reason
    return "script" if block.page.startswith(SCRIPTS) else ""
