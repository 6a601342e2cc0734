"""The network side of the node: associations accepted or refused, C-ECHO answered, C-STORE handed to the intake.

Made by the node. Speaks by pynetdicom (extra `dicom-node`), whose own log is switched off: it would quote headers. A
connection from an address that no allowed peer has is closed before a byte of it is read.
"""

from __future__ import annotations

import logging
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.pixels import get_decoder
from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from restore.errors import ConfigError
from restore.extras import load_extra
from restore.serving.dicom_node.intake import NO_ROOM, Intake
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.peers import Allowed

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
INFLATED = (DeflatedExplicitVRLittleEndian,)
"""Not taken: a whole data set that is deflated may be small on the way and too large in memory."""
REFUSED_CALLER = (0x01, 0x01, 0x03)
"""Result, source and reason of a rejection: permanent, service user, calling AE title not recognised (PS3.8, 9.3.4)."""
DATA = b"\x04"
"""First byte of a P-DATA-TF unit."""
POLL_S = 0.05  # how soon the server sees that it is to end


@dataclass
class _Call:
    """An association. pending: bytes that came since the last whole message."""

    association: Any
    peer: str
    pending: int = 0


def load_network() -> Any:
    """pynetdicom, with its log switched off. Raises ConfigError where it is not installed."""
    network = load_extra("pynetdicom", "dicom-node", "a DICOM node")
    network._config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    return network


class Listener:
    """The server. title, host, port: where it listens; port 0 takes a free one. tell: takes sentences for the log."""

    def __init__(
        self, title: str, host: str, port: int, allowed: Allowed, intake: Intake, limits: Limits,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.allowed, self.intake, self.limits, self.tell = allowed, intake, limits, tell
        self._calls: dict[Any, _Call] = {}
        self._server = self._bound(title, host, port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), daemon=True
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def poll(self, now: float) -> None:
        """Tell the intake of associations that have ended."""
        for association, call in list(self._calls.items()):
            if not association.is_alive() and self._calls.pop(association, None) is not None:
                self.intake.hang_up(association, association.is_released and call.pending == 0, now)

    def stop(self) -> None:
        """Take no more; what is open is ended, an image that is being written is finished first."""
        if not self._thread.is_alive():
            self._server.server_close()
            return
        self._server.shutdown()
        for association in list(self._calls):
            if association.is_alive():
                association.abort()
            association.join(self.limits.silence_s)
        self.poll(time.time())

    def _bound(self, title: str, host: str, port: int) -> Any:
        """A server that holds its port. Raises ConfigError."""
        network = load_network()
        entity = network.AE(title)
        entity.require_called_aet = True
        entity.require_calling_aet = self.allowed.titles
        entity.maximum_associations = self.limits.associations
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.limits.silence_s
        syntaxes = _readable()
        entity.add_supported_context(network.sop_class.Verification)
        for context in network.AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, syntaxes)
        events = network.evt
        handlers = [
            (events.EVT_REQUESTED, self._on_request), (events.EVT_ACCEPTED, self._on_accepted),
            (events.EVT_REJECTED, self._on_rejected), (events.EVT_DATA_RECV, self._on_data),
            (events.EVT_C_ECHO, self._on_echo), (events.EVT_C_STORE, self._on_store),
        ]  # fmt: skip
        try:
            return entity.make_server(
                (host, port), evt_handlers=handlers, server_class=self._server_class(network)
            )
        except OSError as cause:
            raise ConfigError(
                f"cannot listen on {host} port {port} ({cause.strerror or cause}); choose another --host or --port"
            ) from cause

    def _server_class(self, network: Any) -> Any:
        listener = self

        class Server(network.transport.ThreadedAssociationServer):
            """Closes connections from unknown addresses before anything is read."""

            daemon_threads = True

            def verify_request(self, request: Any, client_address: Any) -> bool:
                """Whether the address is one of an allowed peer."""
                known = listener.allowed.knows_address(client_address[0])
                if not known:
                    listener.tell(
                        f"a connection from {client_address[0]} was closed: no allowed peer has this address"
                    )
                return known

            def shutdown(self) -> None:
                """End `serve_forever` and free the port; pynetdicom's own does so for servers of its list alone."""
                socketserver.BaseServer.shutdown(self)
                self.server_close()

        return Server

    def _on_request(self, event: Any) -> None:
        """Refuse a title that calls from another host than its own."""
        caller = event.assoc.requestor
        if not self.allowed.knows(caller.primitive.calling_ae_title, caller.address):
            event.assoc.acse.send_reject(*REFUSED_CALLER)
            self._on_rejected(event)
            event.assoc.kill()

    def _on_accepted(self, event: Any) -> None:
        event.assoc.network_timeout_response = (
            "A-RELEASE"  # a peer that is silent broke nothing off
        )
        self._calls[event.assoc] = _Call(event.assoc, event.assoc.requestor.ae_title)

    def _on_rejected(self, event: Any) -> None:
        caller = event.assoc.requestor
        wanted = caller.primitive
        self.tell(
            f"an association of {wanted.calling_ae_title} from {caller.address}, calling {wanted.called_ae_title}, was "
            "refused: not allowed, another title called, or too many at a time"
        )

    def _on_data(self, event: Any) -> None:
        """Count what came of the message that is under way; one that is far too large is broken off."""
        call = self._calls.get(event.assoc)
        if call is None or event.data[:1] != DATA:
            return
        call.pending += len(event.data)
        self.intake.hear(event.assoc, time.time())
        if (
            call.pending > 2 * self.limits.instance_bytes
        ):  # the intake names what is over the limit itself
            self.tell(
                f"an association of {call.peer} was ended: it sent an image of more than twice the largest size"
            )
            event.assoc.abort(block=False)

    def _on_echo(self, event: Any) -> int:
        self._whole(event)
        return 0x0000

    def _on_store(self, event: Any) -> int:
        self._whole(event)
        call = self._calls.get(event.assoc)
        if call is None:
            return NO_ROOM
        return self.intake.keep(event.assoc, call.peer, event.encoded_dataset(), time.time())

    def _whole(self, event: Any) -> None:
        """Note that a message is complete."""
        call = self._calls.get(event.assoc)
        if call is not None:
            call.pending = 0


def _readable() -> list[Any]:
    """Transfer syntaxes whose pixels can be decoded here, those without compression first."""
    compressed = [
        uid
        for uid in AllTransferSyntaxes
        if uid not in UNCOMPRESSED + INFLATED and _is_decoded(uid)
    ]
    return [*UNCOMPRESSED, *compressed]


def _is_decoded(syntax: Any) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
