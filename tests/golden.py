"""Golden cases: what to ask and what must come back, as data.

A TOML file holds `[[case]]` tables: a `name`, optional `settings` for the server, and `steps` in order. JSON
stands in strings, so that a case shows what travels. In expected texts

    "<any>" "<int>" "<number>" "<str>" "<uuid>" "<id>" "<time>"    match a value of that kind,
    {name}                                            captures text, and stands for it from then on.

A case about the length of JSON texts, or about media types themselves, is `json_only`; the others hold in
MessagePack too.

`answer` is the whole document; `has` names the keys that matter and leaves others open (lists stay whole).
The query of an `href` is compared without regard to the order of its parameters. `facts` are fragments that
the description of a fault must contain, whatever its wording.

Three kinds of step share a case's captures:

    {call = "PUT /v2/queues/q", send = '…', status = 201, …}                 HTTP, as it travels
    {do = "message_post", args = '{"queue_name": "q", …}', status = 201, …}  an action, over any transport
    {send = '{"action": "message_post", …}', status = 201, body = '…'}       a WebSocket frame, as it travels

Of an action, `websocket` is the status there when it is not the same.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
CAPTURED = r"[A-Za-z0-9_.%-]+"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
KINDS = {
    "<str>": r"(?s:.*)",
    "<uuid>": UUID,
    "<id>": r"[A-Za-z0-9_-]{1,64}",
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
}

Step = dict[str, Any]


class Case:
    """One case of a file."""

    def __init__(self, path: Path, data: dict[str, Any], settings: dict[str, str]) -> None:
        self.name: str = data.pop("name")
        self.steps: list[Step] = data.pop("steps")
        self.settings: dict[str, str] = settings | data.pop("settings", {})
        self.json_only: bool = data.pop("json_only", False)
        assert not data, f"{path.name}: {self.name}: what is {sorted(data)}?"
        self.id = f"{path.stem}: {self.name}"


def load(folder: Path) -> list[Case]:
    cases = []
    for path in sorted(folder.glob("*.toml")):
        data = tomllib.loads(path.read_text())
        settings = data.get("settings", {})
        cases += [Case(path, case, settings) for case in data["case"]]
    assert cases, f"no cases in {folder}"
    assert len({case.id for case in cases}) == len(cases), "two cases have one name"
    return cases


class Captures(dict[str, str]):
    """Texts captured so far."""

    def fill(self, text: str) -> str:
        """Put captured texts in their places; what is not captured is a mistake of the case."""
        return PLACE.sub(lambda match: self[match[1]], text)

    def match(self, expected: str, actual: object) -> bool:
        """Whether a text is the expected one, up to places, which capture."""
        if not isinstance(actual, str):
            return False
        pattern, end, seen = "", 0, set()
        for match in PLACE.finditer(expected):
            pattern += re.escape(expected[end : match.start()])
            name, end = match[1], match.end()
            if name in self:
                pattern += re.escape(self[name])
            elif name in seen:
                pattern += f"(?P={name})"
            else:
                seen.add(name)
                pattern += f"(?P<{name}>{CAPTURED})"
        found = re.fullmatch(pattern + re.escape(expected[end:]), actual)
        if found:
            self.update(found.groupdict())
        return found is not None


def differences(
    expected: Any, actual: Any, captures: Captures, *, exact: bool, where: str = "", key: str = ""
) -> list[str]:
    """Say what is not as expected, place by place."""
    wrong = [f"{where or 'document'}: expected {expected!r}, got {actual!r}"]
    match expected:
        case "<any>":
            return []
        case "<int>":
            return [] if type(actual) is int else wrong
        case "<number>":
            return [] if type(actual) in (int, float) else wrong
        case str() if expected in KINDS:
            return [] if isinstance(actual, str) and re.fullmatch(KINDS[expected], actual) else wrong
        case str():
            if key == "href" and isinstance(actual, str):
                expected, actual = sorted_query(expected), sorted_query(actual)
            return [] if captures.match(expected, actual) else wrong
        case dict():
            if not isinstance(actual, dict) or not expected.keys() <= actual.keys():
                return wrong
            if exact and expected.keys() != actual.keys():
                return wrong
            return [
                fault
                for name, value in expected.items()
                for fault in differences(
                    value, actual[name], captures, exact=exact, where=f"{where}.{name}", key=name
                )
            ]
        case list():
            if not isinstance(actual, list) or len(expected) != len(actual):
                return wrong
            return [
                fault
                for i, (one, other) in enumerate(zip(expected, actual, strict=True))
                for fault in differences(one, other, captures, exact=exact, where=f"{where}[{i}]")
            ]
        case _:
            return [] if type(expected) is type(actual) and expected == actual else wrong


def sorted_query(href: str) -> str:
    path, mark, query = href.partition("?")
    return path + mark + "&".join(sorted(query.split("&"), key=lambda pair: pair.partition("=")[0]))


def read_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise AssertionError(f"the case itself is no JSON: {where}: {text}") from exc
