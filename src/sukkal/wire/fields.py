"""Members of an object that was read: which are there, and of which type."""

from types import UnionType
from typing import Any, get_args, get_origin

from sukkal.errors import InvalidBody


def fields(value: dict[str, Any], types: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Those members of an object that are wanted, each of its type; others are ignored.

    A type that admits None takes `null` as absent.
    """
    for name in required:
        if name not in value:
            raise InvalidBody(f'Missing "{name}" field.')
    found = {}
    for name, wanted in types.items():
        if name in value and not (value[name] is None and type(None) in get_args(wanted)):
            found[name] = checked(value[name], plain_type(wanted), name)
    return found


def plain_type(annotation: Any) -> type:
    """`int` for `int` and `int | None`; `list` for `list[str]`; and so on."""
    if get_origin(annotation) is UnionType:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    plain = get_origin(annotation) or annotation
    assert isinstance(plain, type)
    return plain


def checked(value: Any, wanted: type, name: str) -> Any:
    """The value of a field, if it is of the wanted type; `true` passes for 1, as it always has."""
    if wanted is int and isinstance(value, bool):
        return int(value)
    if isinstance(value, wanted) and not (wanted is not bool and isinstance(value, bool)):
        return value
    raise InvalidBody(f'The value of the "{name}" field must be a {wanted.__name__}.')
