"""Weights over the network: the one place of erray that opens a connection, when asked to.

A file arrives under a temporary name beside its own and gets its name after its hash was checked;
what a broken connection left there is gone on with (HTTP ranges), in this call or in a later one.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from erray.encoders.weights import INTACT, Weights, WeightsFile, sha256_of, state_of, weights_dir
from erray.errors import UserError, refusal

ATTEMPTS = 5
PAUSE_S = 2.0  # after the first broken attempt; twice as long after each
_BUSY = {http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS}
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0

OnBytes = Callable[[str, int], None]


def fetch(weights: Weights, *, on_bytes: OnBytes | None = None) -> list[Path]:
    """Fetch the files of a model that are not there intact; return those that came.

    Args:
        on_bytes: told a file's name and how many bytes of it are there, as they come.

    Raises:
        UserError: weights without source or hash, an offline machine, a connection that keeps
            breaking (what came is kept), a folder that cannot be written, or a file that is not the
            manifest's (it is removed).
    """
    if not weights.can_be_fetched:
        source = weights.files[0].source or "no public source"
        raise UserError(
            f"weights {weights.name} have no known hash and are not fetched ({source}): "
            f"get the file yourself and give its path in the recipe"
        )
    wanted = [file for file in weights.files if state_of(file) != INTACT]
    if wanted and _offline():
        raise UserError(f"HF_HUB_OFFLINE is set: weights {weights.name} are not fetched")
    return [_fetch_file(file, on_bytes or (lambda name, num_bytes: None)) for file in wanted]


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _fetch_file(file: WeightsFile, on_bytes: OnBytes) -> Path:
    path = weights_dir() / file.file
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path.parent, error) from None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _download(file, part, on_bytes)
            break
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and not _may_pass(error.code):
                raise UserError(
                    f"{file.source} is not there: the server says {error.code}"
                ) from None
            if attempt == ATTEMPTS:
                came = part.stat().st_size if part.exists() else 0
                raise UserError(
                    f"the connection to {file.source} broke {ATTEMPTS} times ({error}); "
                    f"{came} bytes are kept: run the same command again to go on"
                ) from None
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
    found = sha256_of(part)
    if found != file.sha256:
        part.unlink()
        raise UserError(
            f"{file.source} is not the file of the manifest and was removed: "
            f"expected sha256 {file.sha256}, found {found}"
        )
    part.replace(path)
    return path


def _may_pass(status: int) -> bool:
    """The server itself is in trouble, or wants to be asked later."""
    return status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY


def _download(file: WeightsFile, part: Path, on_bytes: OnBytes) -> None:
    """Append what is still missing to ``part``; start over where the server knows no ranges."""
    assert file.source is not None
    there = part.stat().st_size if part.exists() else 0
    if there and there == file.num_bytes:
        return
    request = urllib.request.Request(file.source)
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        reply = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if there and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing any more
        raise
    with reply:
        if reply.status != http.HTTPStatus.PARTIAL_CONTENT:
            there = 0
        expected = reply.headers.get("Content-Length")
        end = there + int(expected) if expected else None
        while chunk := reply.read(_CHUNK_BYTES):
            _write(part, chunk, "ab" if there else "wb")
            there += len(chunk)
            on_bytes(file.file, there)
    if end is not None and there < end:
        raise http.client.IncompleteRead(b"", end - there)


def _write(part: Path, chunk: bytes, mode: str) -> None:
    """Write to the disk, whose errors are none of the connection's."""
    try:
        with part.open(mode) as out:
            out.write(chunk)
    except OSError as error:
        raise _unwritable(part, error) from None


def _unwritable(path: Path, error: OSError) -> UserError:
    found, advice = refusal(error) or (str(error), "look at the disk")
    return UserError(
        f"{path} cannot be written ({found}): {advice}, or name another folder in ERRAY_WEIGHTS"
    )
