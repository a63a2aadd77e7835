"""Signatures by which a receiver knows that a webhook is ours and new. Source: Standard Webhooks 1.0.0.

Signed is "<id>.<seconds>.<body>" with HMAC-SHA256, once with each key, so that keys can be rotated: put the
new one first, let the receivers take it up, then drop the old one.
"""

import base64
import hmac
from collections.abc import Sequence


def signature(keys: Sequence[bytes], id_: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key, in their order."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
