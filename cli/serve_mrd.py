"""`restore serve mrd`: reconstruct what a scanner, or any client of the MRD streaming protocol, sends."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.cli import console
from restore.cli.config_option import verb
from restore.cli.options import Device

GIGABYTE = 1 << 30


@verb("serve mrd")
def command(
    *,
    host: Annotated[
        str, typer.Option(help="Where to listen; whoever reaches it may send: MRD knows no users.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 9002,
    images: Annotated[
        str, typer.Option(help="Values of images: float, or short (12 bits, as scanners' own).")
    ] = "float",
    largest: Annotated[
        float, typer.Option(metavar="GB", min=0.001, help="That one connection may send.")
    ] = 8.0,
    idle: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="Seconds that a client may be silent.")
    ] = 300.0,
    time_limit: Annotated[
        float,
        typer.Option(metavar="S", min=1, help="Seconds of one connection, its work included."),
    ] = 3600.0,
    connections: Annotated[int, typer.Option(min=1, max=64, help="At a time.")] = 4,
    once: Annotated[bool, typer.Option("--once", help="End after one connection.")] = False,
    device: Device = "auto",
) -> None:
    """Take raw data by the MRD streaming protocol (FIRE, Open Recon) and send images with their places back."""
    from restore.errors import ConfigError
    from restore.pipelines.devices import choose_device
    from restore.serving.mrd_server.configurations import KNOWN
    from restore.serving.mrd_server.connection import Limits
    from restore.serving.mrd_server.server import MRDServer
    from restore.serving.this_machine import is_loopback

    if images not in ("float", "short"):
        raise ConfigError(f"--images is '{images}'; it is float or short")
    limits = Limits(round(largest * GIGABYTE), idle, time_limit, connections)
    with MRDServer(
        host, port, choose_device(device), console.say, limits=limits,
        values="short" if images == "short" else "float",
    ) as server:  # fmt: skip
        where, number = server.address
        if not is_loopback(host):
            console.notes([f"{host} is reached by other machines, and whoever reaches it may send"])
        console.say(f"listening on {where}, port {number}; configurations: {', '.join(KNOWN)}")
        server.serve(most=1 if once else 0)
