"""A message's checksum, as messages show it when the service is told to."""

import hashlib
import json

from msgspec import UNSET, UnsetType

from sukkal.wire import bodies


def checksum(body: bytes) -> str | UnsetType:
    """`MD5:<hex>` over the body's JSON text in the API's canonical form; nothing for null.

    The same in every medium: of a body that is no JSON it is over what readers of JSON are shown.
    """
    body = bodies.as_json(body)
    if body == b"null":
        return UNSET
    try:
        text = json.dumps(json.loads(body))
    except RecursionError:  # nested too deeply to be put into that form
        return UNSET
    return f"MD5:{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
