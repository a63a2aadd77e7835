"""Paths → operations: a tree of path segments, grown from the table."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, get_type_hints

from sukkal.http.query import QueryReader, parameters
from sukkal.limits import is_name
from sukkal.model import topic
from sukkal.operations import PATH_FIELDS, Body, Operation
from sukkal.tally import Figures

TRANSPORT = "http"  # as figures have it
LONGEST_CACHED = 160  # characters of a path; those of busy queues are shorter

# Keys of the tree that no path segment can equal.
_VARIABLE = object()
_HERE = object()

# Fields a body may fill, for each way of carrying one.
_OBJECT = (Body.OPTIONAL, Body.REQUIRED, Body.UNCHECKED)


class Endpoint:
    """An operation as HTTP serves it: where each field of its request comes from, and where it is counted."""

    def __init__(self, operation: Operation, figures: Figures) -> None:
        self.operation = operation
        self.took = figures.of(TRANSPORT, operation.name).took
        self.took_waiting = figures.of(TRANSPORT, operation.name, waits=True).took
        types = get_type_hints(operation.request)
        variables = [part[1:-1] for part in operation.http[1].split("/") if part.startswith("{")]
        self.path_fields = tuple(PATH_FIELDS[variable] for variable in variables)
        self.query = QueryReader({name: types[name] for name in operation.query}, filters=operation.filters)
        self.waits = "wait" in operation.query
        self.body_types: dict[str, Any] = {}
        if operation.body in _OBJECT:
            self.body_types = {
                name: kind
                for name, kind in types.items()
                if name not in self.path_fields and name not in operation.query
            }


class Resource:
    """One path: its endpoints by method."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.selected: dict[str, tuple[bytes, Endpoint]] = {}  # instead, when its parameter is given
        self.path_fields: tuple[str, ...] = ()
        self.of_topic = False

    def add(self, endpoint: Endpoint) -> None:
        operation = endpoint.operation
        method = operation.http[0]
        if operation.selected_by is None:
            self.endpoints[method] = endpoint
        else:
            self.selected[method] = operation.selected_by.encode(), endpoint
        self.path_fields = endpoint.path_fields
        self.of_topic = "{topic_name}" in operation.http[1]

    def endpoint(self, method: str, query: bytes) -> Endpoint | None:
        if query and method in self.selected:
            name, selected = self.selected[method]
            if (name in query or b"%" in query) and name.decode() in parameters(query):
                return selected
        return self.endpoints.get(method)

    @property
    def allow(self) -> str:
        return ", ".join([*sorted(self.endpoints), "OPTIONS"])


class Match(NamedTuple):
    """A path that leads somewhere. Not to be changed: it may be cached."""

    resource: Resource
    fields: dict[str, str]  # of a request, filled by the path's variables
    well_named: bool  # the queue's or topic's name, if there is one, is allowed


class Router:
    def __init__(self, operations: Iterable[Operation], figures: Figures | None = None) -> None:
        figures = figures or Figures()
        self._root: dict[object, Any] = {}
        for operation in operations:
            node = self._root
            for part in operation.http[1].split("/"):
                node = node.setdefault(_VARIABLE if part.startswith("{") else part, {})
            node.setdefault(_HERE, Resource()).add(Endpoint(operation, figures))
        self._cached = lru_cache(4096)(self._match)

    def match(self, path: str) -> Match | None:
        return self._cached(path) if len(path) <= LONGEST_CACHED else self._match(path)

    def _match(self, path: str) -> Match | None:
        node = self._root
        values = []
        for part in path.split("/"):
            child = node.get(part)
            if child is None:
                child = node.get(_VARIABLE)
                if child is None:
                    return None
                values.append(part)
            node = child
        resource = node.get(_HERE)
        if resource is None:
            return None
        fields = dict(zip(resource.path_fields, values, strict=True))
        well_named = is_name(fields.get("queue", "-"))
        if resource.of_topic:
            fields["queue"] = topic(fields["queue"])
        return Match(resource, fields, well_named)
