"""An archive that speaks DICOMweb: what it holds, one image out of it, one image into it.

Used by `pulling` and `pushing`. Speaks by dicomweb-client (extra `dicomweb`), whose log is switched off. Certificates
are verified, redirections refused, and credentials come from the environment or ~/.netrc alone, over an encrypted
connection or to this machine.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from restore.errors import ConfigError, InputError, NotFoundError, RestoreError
from restore.extras import load_extra
from restore.serving.this_machine import is_loopback

USER, PASSWORD, TOKEN = (f"RESTORE_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN"))
"""Environment variables with the credentials: a name with its password, or a token (OAuth 2 bearer)."""

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
LONGEST_UID = 64
TRIES, PAUSE_S = 4, 1.0
"""Of a request that meets no answer, and the pause before the second, twice as long before each further one."""
PATIENCE_S = 120.0  # without a byte: archives may have to fetch an image from tape
WHOLE = 1 << 40
"""Bytes of a body that is sent in one piece: not every archive takes pieces."""
_BUSY = (408, 429, 500, 502, 503, 504)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Instance:
    """An image in an archive, by its UIDs."""

    study: str
    series: str
    uid: str


class Archive:
    """An archive by the address of its DICOMweb service. `notes`: what a user should know of the connection.

    Raises ConfigError: an address that is none, or has credentials in it; credentials that would go unencrypted; the
    package is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        near = _check(url)
        package = load_extra("dicomweb_client", "dicomweb", "DICOMweb")
        logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL + 1)
        requests = load_extra("requests", "dicomweb", "DICOMweb")
        self._failures = requests.exceptions
        session = requests.Session()
        session.max_redirects = 0
        session.auth = _credentials(self.url, requests)
        encrypted = url.lower().startswith("https:")
        if session.auth is not None and not (encrypted or near):
            raise ConfigError(f"{self.url}: credentials are not sent unencrypted; use https")
        self.notes = (
            ()
            if encrypted or near
            else (f"{self.url} is not encrypted: anybody on the way can read the images",)
        )
        self._client: Any = package.DICOMwebClient(
            self.url, session=session, timeout=PATIENCE_S, chunk_size=WHOLE
        )
        self._client.set_http_retry_params(retry=False)

    def find(self, uid: str) -> list[Instance]:
        """The images of a study or of a series, whichever has this UID. Raises NotFoundError and as `_ask`."""
        if not _is_uid(uid):
            raise ConfigError(
                f"'{uid}' is no UID: up to {LONGEST_UID} digits and dots were expected"
            )
        client = self._client
        if self._search(client.search_for_studies, {"StudyInstanceUID": uid}):
            pairs = [
                (uid, _text(found, "0020000E"))
                for found in self._pages(client.search_for_series, "0020000E", uid)
            ]
        else:
            series = self._search(client.search_for_series, {"SeriesInstanceUID": uid})
            pairs = [(_text(found, "0020000D"), uid) for found in series]
        images = [image for study, series in pairs for image in self.instances(study, series)]
        if not images:
            raise NotFoundError(f"{self.url}: holds no study and no series with the UID {uid}")
        return images

    def instances(self, study: str, series: str) -> list[Instance]:
        """The images of a series; none where the archive does not know it."""
        search = self._client.search_for_instances
        return [
            Instance(study, series, _text(f, "00080018"))
            for f in self._pages(search, "00080018", study, series)
        ]

    def fetch(self, image: Instance) -> Dataset:
        """One image, whole. Raises InputError where another one comes."""
        found: Dataset = self._ask(
            lambda: self._client.retrieve_instance(image.study, image.series, image.uid)
        )
        if str(found.get("SOPInstanceUID")) != image.uid:
            raise InputError(self.url, "gave another image than the one that was asked for")
        return found

    def store(self, image: Dataset) -> str:
        """Put one image into the archive; "" where it was taken, else why not."""
        told: Dataset = self._ask(lambda: self._client.store_instances([image]))
        failed = told.get("FailedSOPSequence") or ()
        if failed:
            return f"refused with reason 0x{int(failed[0].get('FailureReason', 0)):04X}"
        taken = {
            str(item.get("ReferencedSOPInstanceUID"))
            for item in told.get("ReferencedSOPSequence") or ()
        }
        return (
            ""
            if str(image.SOPInstanceUID) in taken
            else "the archive does not say that it was taken"
        )

    def _search(self, search: Callable[..., list[Any]], filters: dict[str, str]) -> list[Any]:
        found = self._ask(lambda: search(search_filters=filters))
        # An archive that does not know a filter gives all it has.
        return [
            f
            for f in found
            if all(_text(f, _TAGS[name]) == value for name, value in filters.items())
        ]

    def _pages(self, search: Callable[..., list[Any]], tag: str, *of: str) -> list[Any]:
        """All results of a search; archives may give them in parts, and some do not know offsets."""
        results: dict[str, Any] = {}
        while True:
            page = self._ask(partial(search, *of, offset=len(results)))
            fresh = {_text(found, tag): found for found in page if _text(found, tag) not in results}
            if not fresh:
                return list(results.values())
            results |= fresh

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        """The answer to a request, asked again while nobody answers or the archive is busy.

        Raises NotFoundError (nobody answers, no such thing), ConfigError (credentials, certificate), InputError.
        """
        for left in reversed(range(TRIES)):
            try:
                return request()
            except (
                self._failures.RequestException,
                OSError,
                ValueError,
                KeyError,
                IndexError,
            ) as cause:
                if not left or not self._may_pass(cause):
                    raise self._told(cause) from cause
                time.sleep(PAUSE_S * 2 ** (TRIES - 1 - left))
        raise AssertionError("unreachable")

    def _may_pass(self, cause: Exception) -> bool:
        response = getattr(cause, "response", None)
        if response is not None:
            return response.status_code in _BUSY
        lost = (
            self._failures.ConnectionError,
            self._failures.Timeout,
            self._failures.ChunkedEncodingError,
        )
        return isinstance(cause, lost) and not isinstance(cause, self._failures.SSLError)

    def _told(self, cause: Exception) -> RestoreError:
        """What went wrong, in a sentence without anything of the answer's text."""
        response = getattr(cause, "response", None)
        code = None if response is None else response.status_code
        if isinstance(cause, self._failures.SSLError):
            return ConfigError(
                f"{self.url}: its certificate cannot be verified; name the authority's file in REQUESTS_CA_BUNDLE"
            )
        if isinstance(cause, self._failures.TooManyRedirects):
            return ConfigError(f"{self.url}: sends on to another address; give that one")
        if code in (401, 403):
            return ConfigError(
                f"{self.url}: wants other credentials ({code}); set {USER} and {PASSWORD}, or {TOKEN}, or ~/.netrc"
            )
        if code == 404:
            return NotFoundError(f"{self.url}: there is no such thing at this address (404)")
        if code is not None:
            return InputError(
                self.url,
                f"the archive answers {code}",
                "is it the address of its DICOMweb service?",
            )
        if isinstance(cause, self._failures.RequestException) and self._may_pass(cause):
            return NotFoundError(f"{self.url}: nobody answers there ({type(cause).__name__})")
        return InputError(self.url, f"what it answers is no DICOMweb ({type(cause).__name__})")


_TAGS = {"StudyInstanceUID": "0020000D", "SeriesInstanceUID": "0020000E"}


def _is_uid(text: str) -> bool:
    return len(text) <= LONGEST_UID and UID.fullmatch(text) is not None


def _text(found: Any, tag: str) -> str:
    """A UID of an answer in DICOM JSON. Raises ValueError for what is none: it becomes a name of a file."""
    value = found.get(tag, {}).get("Value") if isinstance(found, dict) else None
    text = str(value[0]) if isinstance(value, list) and value else ""
    if not _is_uid(text):
        raise ValueError(f"no UID in {tag}")
    return text


def _check(url: str) -> bool:
    """Whether an address is of this machine. Raises ConfigError for what is no address of a service."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"'{url}': expected the address of a DICOMweb service, such as https://HOST/dicom-web"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"the address of {parts.hostname} holds credentials, which others can read there; set {USER} and {PASSWORD}"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"'{url}': expected an address without ? and #")
    return is_loopback(parts.hostname)


def _credentials(url: str, requests: Any) -> Any:
    """What goes with every request: a token, a name and a password, or nothing. Raises ConfigError."""
    user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
    if token and (user or password):
        raise ConfigError(f"{TOKEN} and {USER} are both set; unset one")
    if bool(user) != bool(password):
        raise ConfigError(f"of {USER} and {PASSWORD} one alone is set")
    if token:

        def with_token(request: Any) -> Any:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        return with_token
    found = (user, password) if user else requests.utils.get_netrc_auth(url)
    return requests.auth.HTTPBasicAuth(*found) if found else None
