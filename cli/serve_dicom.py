"""`restore serve dicom`: a DICOM node that has a task done on what it receives, and sends the result on."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore.cli import console
from restore.cli.config_option import verb

if TYPE_CHECKING:
    from restore.serving.dicom_node.limits import Limits

MB, GB = 10**6, 10**9


@dataclasses.dataclass(frozen=True)
class NodeLimits:
    """How much is taken, and how long is waited."""

    quiet: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="S", help="A study is complete when nothing came for so long."
        ),
    ] = 60.0
    patience: Annotated[
        float,
        typer.Option(min=0.1, metavar="S", help="A study that lacks images fails after so long."),
    ] = 3600.0
    max_image: Annotated[
        int, typer.Option(min=1, metavar="MB", help="The largest image that is taken.")
    ] = 500
    max_study: Annotated[int, typer.Option(min=1, metavar="GB", help="The largest study.")] = 8
    max_images: Annotated[int, typer.Option(min=1, help="The most images of a study.")] = 20_000
    min_free: Annotated[
        float, typer.Option(min=0, metavar="GB", help="What stays free on the spool's disk.")
    ] = 2.0
    tries: Annotated[
        int, typer.Option(min=1, help="Of sending, with longer and longer pauses.")
    ] = 8
    pause: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Before the second try of sending.")
    ] = 10.0

    def limits(self) -> Limits:
        """As the node takes them."""
        from restore.serving.dicom_node.limits import Limits

        return Limits(
            instance_bytes=self.max_image * MB, study_bytes=self.max_study * GB, study_images=self.max_images,
            free_bytes=int(self.min_free * GB), quiet_s=self.quiet, patience_s=self.patience, tries=self.tries,
            pause_s=self.pause,
        )  # fmt: skip


@verb("serve dicom")
def command(
    *,
    aet: Annotated[str, typer.Option(metavar="TITLE", help="AE title of this node.")] = "RESTORE",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where it listens; 0 takes a free one.")
    ] = 11112,
    host: Annotated[
        str,
        typer.Option(help="Address where it listens: this machine alone, unless another is given."),
    ] = "127.0.0.1",
    allow: Annotated[
        list[str],
        typer.Option(
            metavar="TITLE@HOST", help="Who may send; give it again for others. No one else may."
        ),
    ],
    task: Annotated[
        str,
        typer.Option(
            metavar="'NAME OPTIONS'",
            help="What is done on each series, such as 'volume denoise', with options of that verb.",
        ),
    ],
    send_to: Annotated[
        str, typer.Option(metavar="TITLE@HOST:PORT", help="Where the derived series are sent.")
    ],
    spool: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what is in work. Default: in $XDG_STATE_HOME/restore, by the title."
        ),
    ] = None,
    limits: NodeLimits,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the images of studies that are done in the spool.")
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Take up studies that failed again, with what came of them."
        ),
    ] = False,
) -> None:
    """Receive studies by DICOM (C-STORE), process each series, and send the derived series on, until ended."""
    from restore.cli.serve_task import read_task
    from restore.cli.signals import Ended
    from restore.serving.dicom_node.node import Node, NodeSettings
    from restore.serving.dicom_node.peers import read_peer, read_title
    from restore.serving.this_machine import is_loopback

    title = read_title(aet, "--aet")
    settings = NodeSettings(
        title, host, port, tuple(read_peer(text, "--allow") for text in allow),
        read_peer(send_to, "--send-to", with_port=True), spool or _usual_spool(title), limits.limits(), keep,
        retry_failed,
    )  # fmt: skip
    node = Node(settings, read_task(task), console.say)
    try:
        with node.running():
            if not is_loopback(host):
                console.notes(
                    [f"{host} is reached by other machines; DICOM's transfer is not encrypted"]
                )
            console.result(f"{title} listens on {host} port {node.port}, spool {settings.spool}")
            node.wait()
    except (KeyboardInterrupt, Ended):
        console.say(
            f"stopped; {node.waiting()} studies wait in {settings.spool}: the same command goes on with them"
        )


def _usual_spool(title: str) -> Path:
    """The folder of a node where none is named."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = Path(state).expanduser() if state else Path.home() / ".local" / "state"
    plain = "".join(c if c.isalnum() else "_" for c in title)
    return folder / "restore" / f"dicom-{plain}"
