"""Opaque ids for everything that may leave the machine."""

import hashlib
import hmac
import os
import secrets
from functools import cache
from pathlib import Path


@cache
def _key() -> bytes:
    """The machine's secret key, made on first use and readable by its owner only."""
    given = os.environ.get("GAZE_LIGHTNING_ID_KEY")
    if given:
        return given.encode()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "gaze_lightning" / "id_key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    key = secrets.token_hex(32).encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key


def opaque_id(identifier: str) -> str:
    """Turn a real id into one that can be shown in logs and on the console.

    A keyed hash (HMAC-SHA256, 10 hex digits): a plain hash of an eight-digit patient id is found by trying all ids. The
    key lies in the user's state folder (or in ``GAZE_LIGHTNING_ID_KEY``): one id has one name on one machine.

    Args:
        identifier: a sample, image or patient id.

    Returns:
        Ten hexadecimal digits.
    """
    return hmac.new(_key(), identifier.encode(), hashlib.sha256).hexdigest()[:10]
