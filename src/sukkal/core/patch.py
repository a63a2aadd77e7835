"""JSON patch on queue metadata: operations on `/metadata/<key>`, all or none."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from sukkal.core.attributes import RESERVED
from sukkal.errors import Conflict, InvalidBody

_OPERATIONS = "It must be one of the following: add, remove, replace."


class Change(Struct, frozen=True):
    """One operation: add, replace or remove the metadata `key`."""

    operation: str
    key: str
    value: Any = None


def parse(changes: Sequence[Any]) -> list[Change]:
    """The operations of a patch; InvalidBody for the first that is malformed."""
    return [_parse_change(change) for change in changes]


def _parse_change(change: Any) -> Change:
    if not isinstance(change, dict):
        raise InvalidBody("Operations must be JSON objects.")
    if "op" not in change:
        raise InvalidBody(f"Unable to find `op` in JSON Schema change. {_OPERATIONS}")
    operation = change["op"]
    if operation not in ("add", "remove", "replace"):
        raise InvalidBody(f"Invalid operation: `{operation}`. {_OPERATIONS}")
    if "path" not in change:
        raise InvalidBody("Unable to find 'path' in JSON Schema change")
    root, key = _parse_pointer(change["path"])
    if operation != "remove":
        if "value" not in change:
            raise InvalidBody(f'Operation "{operation}" requires a member named "value".')
        if root.lower() != "metadata":
            raise InvalidBody("The root of path must be metadata, e.g /metadata/key.")
    return Change(operation, key, change.get("value"))


def _parse_pointer(pointer: Any) -> tuple[str, str]:
    if not isinstance(pointer, str):
        raise InvalidBody("The path of an operation must be a string, e.g. /metadata/key.")
    if not pointer.startswith("/"):
        raise InvalidBody(f'Pointer `{pointer}` does not start with "/".')
    if len(pointer) > 1 and pointer.endswith("/"):
        raise InvalidBody(f'Pointer `{pointer}` end with "/".')
    if re.search(r"/\s*/", pointer):
        raise InvalidBody(f'Pointer `{pointer}` contains adjacent "/".')
    if re.search(r"~(?![01])", pointer):
        raise InvalidBody(f'Pointer `{pointer}` contains "~" not part of a recognized escape sequence.')
    tokens = [token.strip().replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]
    if len(tokens) != 2:
        raise InvalidBody(f"Invalid JSON pointer for this resource: '/{'/'.join(tokens)}, e.g /metadata/key'")
    return tokens[0], tokens[1]


def apply(changes: Sequence[Change], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata after the changes, in order; Conflict when one needs a key that is not there.

    Reserved attributes always have a value, so replacing or removing one that is unset is no conflict.
    """
    changed = dict(metadata)
    for change in changes:
        if change.operation != "add" and change.key not in changed and change.key not in RESERVED:
            raise Conflict(f"Can't {change.operation} non-existent object key.")
        if change.operation == "remove":
            changed.pop(change.key, None)
        else:
            changed[change.key] = change.value
    return changed
