"""`restore simulate ... --policy`: the options, and a scan that is measured line by line. Used by `simulate` only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console

if TYPE_CHECKING:
    from restore.acquire.measuring import LineScan, Plan
    from restore.cli.simulation import Simulation
    from restore.datasets.ct.scan import CTScan
    from restore.datasets.mri.scan import MRIScan
    from restore.datasets.volume.volume import Volume


class PolicyName(StrEnum):
    """By what lines are chosen."""

    ads = "ads"
    variance = "variance"
    centre_out = "centre-out"
    gaussian1d = "gaussian1d"
    equispaced = "equispaced"
    random = "random"


ADAPTIVE = (PolicyName.ads, PolicyName.variance)


@dataclasses.dataclass(frozen=True)
class PolicyOptions:
    """Options of scans that are measured line by line."""

    policy: Annotated[
        PolicyName | None,
        typer.Option(
            help="Measure line by line: ads or variance (where posterior draws disagree), random, of MRI centre-out or "
            "gaussian1d, of CT equispaced. docs/acquiring.md",
        ),
    ] = None
    budget: Annotated[
        int | None, typer.Option(min=1, help="--policy: how many lines (columns, views) in all.")
    ] = None
    start: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="--policy: of them before the first choice.",
            show_default="4 columns, 2 views",
        ),
    ] = None
    particles: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1000,
            help="--policy ads, variance: posterior draws a choice.",
            show_default="8",
        ),
    ] = None
    prior: Annotated[
        str, typer.Option(help="--policy ads, variance: a bundled name or a weight file.")
    ] = "auto"

    def wanted(self, given: dict[str, Any]) -> bool:
        """Whether lines are to be chosen; refuses what does nothing then. given: options of other scans, by name."""
        if self.policy is None:
            told = None if self.prior == "auto" else self.prior
            mine = {
                "budget": self.budget,
                "start": self.start,
                "particles": self.particles,
                "prior": told,
            }
            for name, value in mine.items():
                if value is not None:
                    raise typer.BadParameter(f"--{name} needs --policy")
            return False
        if self.budget is None:
            raise typer.BadParameter("--policy needs --budget, the number of lines in all")
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(f"--{name} cannot be told with --policy; leave it out")
        adaptive = self.policy in ADAPTIVE
        if not adaptive and (self.particles is not None or self.prior != "auto"):
            raise typer.BadParameter(
                f"--policy {self.policy} asks no prior; leave --particles and --prior out"
            )
        return True

    def plan(self, seed: int, scan: LineScan) -> Plan:
        """What the options say. Raises ConfigError."""
        from restore.acquire.choosing import Particles
        from restore.acquire.measuring import Plan

        particles = Particles(seed=seed)
        if self.particles is not None:
            particles = dataclasses.replace(particles, count=self.particles)
        plan = Plan(
            str(self.policy), budget=self.budget or 0, start=self.start, particles=particles
        )
        return plan.checked(scan)


def measure_mri(
    simulation: Simulation, options: PolicyOptions, *, coils: int, noise: float
) -> bool:
    """Simulate complete k-space, choose its columns and write those."""
    from restore.acquire.order_picture import draw_columns
    from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
    from restore.datasets.simulate.mri import simulate_mri

    def complete(volume: Volume, slices: slice) -> MRIScan:
        scan = simulate_mri(
            volume, coils=coils, acceleration=1, noise=noise, slices=slices, seed=simulation.seed
        )
        left_out = ("acceleration", "center_fraction")
        settings = {k: v for k, v in scan.settings.items() if k not in left_out}
        return dataclasses.replace(scan, settings={**settings, "mask": str(options.policy)})

    return _measured(
        simulation, options, complete, write_fastmri, "kspace", "columns",
        lambda scan, *told: draw_columns(told[0], scan.shape[3], *told[1:]),
    )  # fmt: skip


def measure_ct(
    simulation: Simulation, options: PolicyOptions, *, views: int, arc: float, photons: float
) -> bool:
    """Simulate all views, choose some and write those."""
    from restore.acquire.order_picture import draw_views
    from restore.datasets.ct.files.measurement import write_ct_measurement
    from restore.datasets.simulate.ct import simulate_ct

    def complete(volume: Volume, slices: slice) -> CTScan:
        return simulate_ct(
            volume, views=views, arc=arc, photons=photons, slices=slices, seed=simulation.seed
        )

    return _measured(
        simulation, options, complete, write_ct_measurement, "sinogram", "views",
        lambda scan, *told: draw_views(told[0], scan.geometry.angles, *told[1:]),
    )  # fmt: skip


def _measured(
    simulation: Simulation,
    options: PolicyOptions,
    complete: Callable[[Volume, slice], Any],
    write: Callable[[Any, Path], None],
    measured: str,
    lines: str,
    draw: Callable[..., None],
) -> bool:
    """Choose, write the scan and draw the order. measured: the field of the scan. lines: what these are."""
    from restore.acquire.measuring import lines_of, measured_lines
    from restore.acquire.order_picture import picture_path

    simulation.check()
    picture = picture_path(simulation.out)
    _check_picture(simulation, picture)
    source, chosen = simulation.opened()
    whole = complete(source, chosen)
    plan, total = options.plan(simulation.seed, whole), lines_of(whole)
    settings = {**whole.settings, "policy": plan.policy, "budget": plan.budget, "candidates": total}
    if options.policy in ADAPTIVE:
        drawn = {f"particles_{k}": v for k, v in dataclasses.asdict(plan.particles).items()}
        settings |= {"start": plan.start, "look": plan.look, "prior": options.prior, **drawn}
    elif plan.policy != "equispaced":
        settings["start"] = plan.start
    order = _order(simulation, whole, plan, options.prior, settings)
    scan = dataclasses.replace(
        measured_lines(whole, order), settings={**settings, "order": list(order)}
    )
    made = simulation.written(scan, source, write, measured)
    if made or not picture.exists():
        title = f"{plan.policy}: {plan.budget} of {total} {lines}"
        draw(whole, order, picture, title)
    return simulation.report(
        made,
        scan.notes,
        f"{scan.n_slices} slices, {plan.budget} of {total} {lines} by {plan.policy}; {picture.name} shows the order",
        kind=scan.kind, slices=list(scan.slice_indices), shape=list(scan.shape),
        noise_std=scan.noise_std, settings=scan.settings, picture=str(picture),
    )  # fmt: skip


def _order(
    simulation: Simulation, whole: LineScan, plan: Plan, prior: str, settings: dict[str, Any]
) -> tuple[int, ...]:
    """The order that the scan at OUT was measured in, else chosen now.

    Raises OutputError for a scan of other settings, before anything is chosen.
    """
    from restore.acquire.measuring import order_of_lines
    from restore.errors import OutputError

    out = simulation.out
    if out.is_file() and not simulation.overwrite:
        known = _known_order(out, settings)
        if known is None:
            raise OutputError(f"{out}: exists already; choose another name or add --overwrite")
        return known
    lines = console.progress_lines(f"{out.name}: order", "lines", every_s=2.0)
    with console.progress(f"{out.name}: order", total=plan.budget) as advance:

        def on_line(taken: int, budget: int) -> None:
            advance(taken)
            lines(taken, budget)

        return order_of_lines(whole, plan, prior, on_line)


def _known_order(out: Path, settings: dict[str, Any]) -> tuple[int, ...] | None:
    """Of a scan of these settings, so that what is done is known without choosing again; None for one of others.

    Raises InputError for a file whose settings cannot be read.
    """
    from restore.datasets.json_text import plain
    from restore.datasets.open import open_scan

    found = open_scan(out).settings
    order = found.get("order")
    if not isinstance(order, list) or any(n not in range(settings["candidates"]) for n in order):
        return None
    same = all(found.get(k) == v for k, v in plain(settings).items())
    return tuple(order) if same else None


def _check_picture(simulation: Simulation, picture: Path) -> None:
    """Refuse to draw over a picture that is of no scan here. Raises OutputError."""
    from restore.errors import OutputError

    if picture.exists() and not simulation.overwrite and not simulation.out.exists():
        raise OutputError(f"{picture}: exists already; choose another name or add --overwrite")
