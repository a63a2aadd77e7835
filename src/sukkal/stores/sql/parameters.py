"""What statements are given, by names that no column has, and the conditions they share."""

from typing import Any

from sqlalchemy import BigInteger, BindParameter, Double, Integer, LargeBinary, and_, bindparam, or_

from sukkal.stores.contract import Shelf
from sukkal.stores.sql.schema import counter_of, document

KIND: BindParameter[bytes] = bindparam("of_kind", type_=LargeBinary)
PROJECT: BindParameter[bytes] = bindparam("of_project", type_=LargeBinary)
NAME: BindParameter[bytes] = bindparam("called", type_=LargeBinary)
NOW: BindParameter[float] = bindparam("now", type_=Double())
NUMBER: BindParameter[int] = bindparam("counted_by", type_=Integer)
EXPECT: BindParameter[int] = bindparam("expect", type_=BigInteger)
VERSION: BindParameter[int] = bindparam("new_version", type_=BigInteger)
VALUE: BindParameter[bytes] = bindparam("new_value", type_=LargeBinary)
EXPIRES: BindParameter[float] = bindparam("new_expires", type_=Double())

ON_SHELF = and_(document.c.kind == KIND, document.c.project == PROJECT)
AT_PLACE = and_(ON_SHELF, document.c.name == NAME)
LIVE = or_(document.c.expires.is_(None), document.c.expires > NOW)
EXPIRED = document.c.expires <= NOW

Given = dict[str, Any]


def shelf_given(shelf: Shelf) -> Given:
    return {"of_kind": _bytes(shelf.kind), "of_project": _bytes(shelf.project)}


def place_given(shelf: Shelf, name: str) -> Given:
    return {**shelf_given(shelf), "called": _bytes(name)}


def record_given(shelf: Shelf, name: str, value: bytes, expires: float | None) -> Given:
    """All but the version, and the counter that it is drawn from."""
    place = place_given(shelf, name)
    number = counter_of(place["of_kind"], place["of_project"], place["called"])
    return {**place, "new_value": value, "new_expires": expires, "counted_by": number}


def _bytes(words: str) -> bytes:
    return words.encode("utf-8", "surrogatepass")


def words(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
