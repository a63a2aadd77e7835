"""Signatures by which a receiver knows that a webhook is ours and new. Source: Standard Webhooks 1.0.0.

Signed is "<id>.<seconds>.<body>" with HMAC-SHA256, once with each key, so that keys can be rotated: put the
new one first, let the receivers take it up, then drop the old one.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Any

from sukkal.errors import Invalid

OPTION = "signing_keys"  # of a subscription
PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a key
MOST = 5  # keys of one subscription


def read_key(text: str) -> bytes:
    """The key that stands in the text, `whsec_` and base64; ValueError when none does."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"a signing key is {PREFIX} and {SHORTEST} to {LONGEST} bytes in base64")
    return key


def own_keys(options: dict[str, Any]) -> list[bytes]:
    """The keys of a subscription, newest first; Invalid when they cannot be used."""
    given = options.get(OPTION)
    if given is None:
        return []
    texts = [given] if isinstance(given, str) else given
    if (
        not isinstance(texts, list)
        or not 0 < len(texts) <= MOST
        or not all(isinstance(t, str) for t in texts)
    ):
        raise Invalid(f"options.{OPTION} must be a signing key, or a list of up to {MOST}, newest first.")
    try:
        return [read_key(text) for text in texts]
    except ValueError as exc:
        raise Invalid(f"options.{OPTION} cannot be used: {exc}.") from exc


def signature(keys: Sequence[bytes], id_: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key, in their order."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
