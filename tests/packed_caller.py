"""A caller that speaks MessagePack where its tests speak JSON: the same questions get the same answers."""

import email.message
import http.client
import json
from typing import Any

import msgspec
from http_caller import PATCH_TYPE, Answer, Caller

MSGPACK = "application/x-msgpack"


class PackedCaller(Caller):
    """Takes and gives JSON like its ancestor; in between it is MessagePack, wherever that is left open."""

    packed = 0  # answers that came so, by any caller

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        headers = dict(options.pop("headers", ()))
        given = {name.lower(): value for name, value in headers.items()}
        if body is not None and given.get("content-type", PATCH_TYPE) == PATCH_TYPE:
            document = body if isinstance(body, dict | list) else readable(body)
            if document is not None:
                body = msgspec.msgpack.encode(document)
                headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
                headers["Content-Type"] = MSGPACK
        if "accept" not in given:
            headers["Accept"] = MSGPACK
        answer = super().__call__(method, path, body, headers=headers, **options)
        if "accept" in given or method == "OPTIONS":
            return answer
        assert answer.headers["Content-Type"] == MSGPACK
        PackedCaller.packed += 1
        content = json.dumps(msgspec.msgpack.decode(answer.body)).encode() if answer.body else b""
        return Answer(answer.status, in_json(answer.headers), content)


def readable(text: str) -> Any:
    """The document that a text is; None for one that only JSON can say, or nobody."""
    try:
        document = msgspec.json.decode(text)
        msgspec.msgpack.encode(document)
    except (msgspec.DecodeError, OverflowError):
        return None
    return document


def in_json(headers: http.client.HTTPMessage) -> http.client.HTTPMessage:
    told: email.message.Message = http.client.HTTPMessage()
    for name, value in headers.items():
        told[name] = "application/json" if name.lower() == "content-type" else value
    assert isinstance(told, http.client.HTTPMessage)
    return told
