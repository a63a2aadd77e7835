"""Golden cases: `cases/` in terms of operations, over every transport; `cases/http/` and `cases/ws/` as
requests and answers travel.
"""

import json
import re
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import pytest
from golden import UUID, Captures, Case, Step, differences, load, read_json
from http_caller import PATCH_TYPE, Answer, Caller
from packed_caller import PackedCaller
from server_process import ServerPool, ServerProcess
from ws_caller import Reply, Socket, encode

CASES = Path(__file__).parent / "cases"


Speaker = TypeVar("Speaker", Caller, Socket)


class Cast(Generic[Speaker]):
    """The callers of one case: clients and projects by the names the steps give them."""

    def __init__(self, speaker: Callable[..., Speaker], host: str, port: int) -> None:
        self._speaker = speaker
        self._address = (host, port)
        self._projects: dict[str, str] = {}
        self._clients: dict[str, str] = {}
        self._callers: dict[tuple[str, str], Speaker] = {}

    def caller(self, step: Step) -> Speaker:
        client, project = step.get("as", "a"), step.get("of", "ours")
        if (client, project) not in self._callers:
            self._callers[client, project] = self._speaker(
                *self._address,
                project=self._projects.setdefault(project, f"project-{uuid.uuid4().hex}"),
                client=self._clients.setdefault(client, str(uuid.uuid4())),
            )
        return self._callers[client, project]

    def close(self) -> None:
        for caller in self._callers.values():
            caller.close()


@pytest.mark.parametrize("store", [("--store", "memory:"), ()], ids=["memory", "embedded"])
@pytest.mark.parametrize("case", load(CASES) + load(CASES / "http"), ids=lambda case: case.id)
def test_case(case: Case, store: tuple[str, ...], servers: ServerPool) -> None:
    play(case, servers.get(*store, **case.settings), Caller)


@pytest.mark.parametrize(
    "case",
    [case for case in load(CASES) + load(CASES / "http") if not case.json_only],
    ids=lambda case: case.id,
)
def test_case_in_messagepack(case: Case, servers: ServerPool) -> None:
    before = PackedCaller.packed
    play(case, servers.get("--store", "memory:", **case.settings), PackedCaller)
    assert PackedCaller.packed > before


def play(case: Case, server: ServerProcess, kind: type[Caller]) -> None:
    """Go through the steps of a case with callers of a kind."""
    cast, captures = Cast(kind, server.host, server.port), Captures()
    try:
        for number, step in enumerate(case.steps, start=1):
            caller = cast.caller(step)
            captures.update(project=caller.project, client=caller.client, patch=PATCH_TYPE)
            answer, faults = (call if "call" in step else act)(step, caller, captures)
            shown = (
                f"step {number}: {step}\nanswer: {answer.status} {answer.headers.items()}\n{answer.body!r}"
            )
            assert not faults, "\n".join([*faults, shown])
    finally:
        cast.close()
    server.check()


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("case", load(CASES) + load(CASES / "ws"), ids=lambda case: case.id)
def test_case_over_a_websocket(case: Case, binary: bool, servers: ServerPool) -> None:
    server = servers.get("--store", "memory:", **case.settings)
    cast, captures = Cast(partial(Socket, binary=binary), server.host, server.port), Captures()
    try:
        for number, step in enumerate(case.steps, start=1):
            socket = cast.caller(step)
            captures.update(project=socket.project, client=socket.client, me=json.dumps(socket.identity))
            reply, faults = (speak if "do" in step else exchange)(step, socket, captures)
            shown = f"step {number}: {step}\nreply: {reply.document}"
            assert not faults, "\n".join([*faults, shown])
    finally:
        cast.close()
    server.check()


def call(step: Step, caller: Caller, captures: Captures) -> tuple[Answer, list[str]]:
    """Send a step of `cases/http` and compare what came back."""
    known = {
        "call",
        "as",
        "of",
        "send",
        "with",
        "without",
        "status",
        "headers",
        "answer",
        "has",
        "fault",
        "facts",
    }
    assert step.keys() <= known | {"bare", "empty"}, f"what is {sorted(step.keys() - known)}?"
    method, _, path = captures.fill(step["call"]).partition(" ")
    headers = caller.identity | {name: captures.fill(value) for name, value in step.get("with", {}).items()}
    for name in step.get("without", []):
        del headers[name]
    body = captures.fill(step["send"]) if "send" in step else None
    answer = caller(method, path, body, headers=headers, anonymous=True)
    return answer, [*common_faults(answer, method), *http_faults(step, answer, captures)]


def common_faults(answer: Answer, method: str) -> list[str]:
    """What holds for every answer, whatever was asked."""
    faults = []
    if not re.fullmatch(f"req-{UUID}", answer.headers.get("x-openstack-request-id", "")):
        faults.append("no x-openstack-request-id")
    if not answer.headers.get("Location", "/v2/").startswith("/v2/"):
        faults.append("Location is not relative")
    if answer.status == 204 and answer.body:
        faults.append("a 204 has no body")
    typed = answer.headers.get("Content-Type", "").startswith("application/json")
    if answer.status < 300 and method != "OPTIONS" and not typed:
        faults.append("every answer says it is JSON, also an empty one")
    if answer.status >= 400:
        if answer.headers.get("Vary") != "Accept":
            faults.append("an error varies by Accept")
        if method != "HEAD":
            faults += error_document_faults(answer)
    return faults


def error_document_faults(answer: Answer) -> list[str]:
    """Whether an error is told in the one form there is."""
    if not answer.headers.get("Content-Type", "").startswith("application/json"):
        return ["an error is told in JSON"]
    document = answer.json
    if not isinstance(document.get("title"), str):
        return ["an error has a title"]
    bare = document in ({"title": "404 Not Found"}, {"title": "405 Method Not Allowed"})
    if not bare and not isinstance(document.get("description"), str):
        return ["an error has a description"]
    if document.keys() - {"title", "description", "link"}:
        return ["an error has a title and a description only"]
    return []


def http_faults(step: Step, answer: Answer, captures: Captures) -> list[str]:
    faults = []
    if answer.status != step["status"]:
        faults.append(f"status {answer.status} instead of {step['status']}")
    for name, expected in step.get("headers", {}).items():
        if not captures.match(expected, answer.headers.get(name, "")):
            faults.append(f"{name}: {answer.headers.get(name)!r} instead of {expected!r}")
    if step.get("empty") and answer.body:
        faults.append("the body is not empty")
    if faults:
        return faults
    if "bare" in step and answer.json != {"title": step["bare"]}:
        faults.append(f"not the bare title {step['bare']!r}")
    if "fault" in step and answer.json.get("title") != captures.fill(step["fault"]):
        faults.append(f"title {answer.json.get('title')!r} instead of {step['fault']!r}")
    faults += missing_facts(step, answer.json.get("description", ""), captures) if "facts" in step else []
    for key in ("answer", "has"):
        if key in step:
            expected = read_json(step[key], key)
            faults += differences(expected, json.loads(answer.body), captures, exact=key == "answer")
    return faults


def missing_facts(step: Step, description: str, captures: Captures) -> list[str]:
    return [
        f"the description does not tell {fact!r}"
        for fact in map(captures.fill, step.get("facts", []))
        if not re.search(whole_number(fact), description, re.IGNORECASE)
    ]


def whole_number(fact: str) -> str:
    """A pattern for a fragment of text; a number is not found inside a longer one."""
    return rf"(?<!\d){fact}(?!\d)" if fact.isdigit() else re.escape(fact)


# --- operations, spoken as HTTP ---------------------------------------------------------------------------

# action → method and path below the queue
ROUTES: dict[str, tuple[str, str]] = {
    "queue_create": ("PUT", ""),
    "queue_delete": ("DELETE", ""),
    "queue_get_stats": ("GET", "/stats"),
    "queue_purge": ("POST", "/purge"),
    "message_post": ("POST", "/messages"),
    "message_list": ("GET", "/messages"),
    "message_get": ("GET", "/messages/{message_id}"),
    "message_get_many": ("GET", "/messages"),
    "message_delete": ("DELETE", "/messages/{message_id}"),
    "message_delete_many": ("DELETE", "/messages"),
    "claim_create": ("POST", "/claims"),
    "claim_get": ("GET", "/claims/{claim_id}"),
    "claim_update": ("PATCH", "/claims/{claim_id}"),
    "claim_delete": ("DELETE", "/claims/{claim_id}"),
    "subscription_list": ("GET", "/subscriptions"),
    "subscription_create": ("POST", "/subscriptions"),
    "subscription_get": ("GET", "/subscriptions/{subscription_id}"),
    "subscription_delete": ("DELETE", "/subscriptions/{subscription_id}"),
}


def act(step: Step, caller: Caller, captures: Captures) -> tuple[Answer, list[str]]:
    """Speak a step of `cases` as HTTP, and compare what came back in the operation's own terms."""
    known = {"do", "as", "of", "args", "status", "websocket", "has", "facts"}
    assert step.keys() <= known, f"what is {sorted(step.keys() - known)}?"
    args = read_json(captures.fill(step["args"]), "args")
    method, path, body = request_of(step["do"], args)
    answer = caller(method, path, body)
    faults = common_faults(answer, method)
    if answer.status != step["status"]:
        faults.append(f"status {answer.status} instead of {step['status']}")
    elif "facts" in step:
        faults += missing_facts(step, answer.json["description"], captures)
    elif "has" in step:
        expected = read_json(step["has"], "has")
        faults += differences(expected, result_of(step["do"], answer), captures, exact=False)
    return answer, faults


def request_of(action: str, args: dict[str, Any]) -> tuple[str, str, Any]:
    """The HTTP request that asks for an action: method, target and body."""
    method, below = ROUTES[action]
    path = f"/v2/queues/{args.pop('queue_name')}"
    for name in re.findall(r"\{(\w+)\}", below):
        below = below.replace(f"{{{name}}}", args.pop(name))
    path += below
    query: dict[str, Any] = {}
    body: Any = None
    match action:
        case "queue_create":
            body = args.get("metadata")
        case "claim_create":
            query = {name: args.pop(name) for name in ["limit"] if name in args}
            body = args
        case "message_post" | "queue_purge" | "claim_update" | "subscription_create":
            body = args
        case _:
            query = args
    renamed = {"message_ids": "ids"}
    pairs = [
        (
            renamed.get(name, name),
            ",".join(value) if isinstance(value, list) else json.dumps(value).strip('"'),
        )
        for name, value in query.items()
    ]
    return method, path + (f"?{urlencode(pairs)}" if pairs else ""), body


def result_of(action: str, answer: Answer) -> Any:
    """The operation's result in an HTTP answer, in the terms of the other transport."""
    if action == "message_post":
        return {"message_ids": [href.rpartition("/")[2] for href in answer.json["resources"]]}
    if action == "claim_create" and answer.status == 204:
        return {"claim_id": None}
    if not answer.body:
        return {}
    result = answer.json
    if action == "message_get":
        return {"messages": result}
    if action == "claim_create":
        claim_id = answer.headers["Location"].rpartition("/")[2]
        assert all(message["href"].endswith(f"?claim_id={claim_id}") for message in result["messages"])
        return {"claim_id": claim_id, **result}
    return result


# --- operations, spoken over a WebSocket ------------------------------------------------------------------


def speak(step: Step, socket: Socket, captures: Captures) -> tuple[Reply, list[str]]:
    """Ask for the action of a step of `cases`, and compare what came back."""
    reply = socket(step["do"], read_json(captures.fill(step["args"]), "args"))
    faults = [] if reply.binary is socket.binary else ["the reply is a frame of another kind"]
    status = step.get("websocket", step["status"])
    if reply.status != status:
        faults.append(f"status {reply.status} instead of {status}")
    elif status >= 400 and "facts" in step:
        faults += missing_facts(step, reply.body["exception"], captures)
    elif status < 400 and "has" in step:
        faults += differences(read_json(step["has"], "has"), reply.body, captures, exact=False)
    return reply, faults


def exchange(step: Step, socket: Socket, captures: Captures) -> tuple[Reply, list[str]]:
    """Send a step of `cases/ws` and compare the whole document that came back.

    What is sent is JSON, and goes out in the kind of frame the caller speaks; `{me}` stands for its headers.
    `raw` goes out as text, whatever it is. The reply repeats the request, or else has `echo`.
    """
    known = {"send", "raw", "as", "of", "echo", "status", "body"}
    assert step.keys() <= known, f"what is {sorted(step.keys() - known)}?"
    sent: Any = {}
    if "raw" in step:
        socket.send(step["raw"])
    else:
        sent = read_json(captures.fill(step["send"]), "send")
        socket.send(encode(sent, binary=socket.binary))
    reply = socket.receive()
    echo = {"action": None, "body": {}, "headers": {}, "api": "v2"}
    echo |= (
        read_json(step["echo"], "echo") if "echo" in step else {key: sent[key] for key in sent if key in echo}
    )
    faults = [] if reply.binary is (socket.binary and "raw" not in step) else ["a frame of another kind"]
    if reply.document.get("request") != echo:
        faults.append(f"the request is repeated as {reply.document.get('request')}")
    if reply.document.keys() != {"request", "body", "headers"} or reply.document["headers"] != {
        "status": step["status"]
    }:
        faults.append("keys or status are others")
    else:
        faults += differences(read_json(step["body"], "body"), reply.body, captures, exact=True)
    return reply, faults


def test_every_action_of_the_cases_has_a_route() -> None:
    actions = {step["do"] for case in load(CASES) for step in case.steps if "do" in step}
    assert actions <= ROUTES.keys()
