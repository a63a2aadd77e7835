"""Keys that webhooks are signed with, as subscriptions and settings hold them. Source: Standard Webhooks."""

import base64
import binascii
from collections.abc import Mapping
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


def own_keys(options: Mapping[str, Any]) -> list[bytes]:
    """The keys of a subscription, newest first; Invalid when they cannot be used."""
    given = options.get(OPTION)
    if given is None:
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        texts = []
    if not 0 < len(texts) <= MOST:
        raise Invalid(f"options.{OPTION} must be a signing key, or a list of up to {MOST}, newest first.")
    try:
        return [read_key(text) for text in texts]
    except ValueError as exc:
        raise Invalid(f"options.{OPTION} cannot be used: {exc}.") from exc
