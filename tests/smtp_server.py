"""An SMTP server that does as it is told, as a program of its own.

It reads one order a line from its standard input and answers each with the port that the order is for. What
it takes goes to a file before it says so. It ends with its standard input.
"""

import asyncio
import random
import ssl
import sys
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from msgspec import Struct

Stage = Literal["MAIL", "RCPT", "DATA", "TAKEN"]  # of a conversation; the last one: it has the mail already


class Rule(Struct, frozen=True):
    """What it says instead of 250."""

    at: Stage
    answer: str | None  # None: it hangs up
    to: str | None = None  # the recipient that this is about, from RCPT on; None: all
    chance: float = 1.0


class Open(Struct, frozen=True, tag=True, kw_only=True):
    """Listen on a port of the loopback interface, and keep mail in a file."""

    file: str  # a JSON document of a Mail in each line
    port: int = 0  # one that is free
    rules: list[Rule] = []  # the first that applies is followed
    tls: Literal["tls", "starttls", "none"] = "none"
    certificate: str | None = None  # file of what is presented, with its key
    login: tuple[str, str] | None = None  # the user and the password to insist on
    seed: int = 0  # of the rules' chances


class Close(Struct, frozen=True, tag=True):
    """Listen no more."""

    port: int


class Mail(Struct, frozen=True):
    sender: str
    recipients: list[str]
    content: bytes
    tls: bool


class Postmaster:
    """Keeps mail, or answers as the rules have it."""

    def __init__(self, order: Open) -> None:
        self._rules = order.rules
        self._file = open(order.file, "ab", buffering=0)  # noqa: SIM115 - what was written outlives the process
        self._chance = random.Random(order.seed)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        envelope.mail_from = address
        return self._answer("MAIL", server, [])

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        envelope.rcpt_tos.append(address)
        return self._answer("RCPT", server, [address])

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self._answer("DATA", server, envelope.rcpt_tos)
        if not answer.startswith("250"):
            return answer
        tls = server.transport.get_extra_info("ssl_object") is not None
        mail = Mail(envelope.mail_from, envelope.rcpt_tos, envelope.content, tls)
        self._file.write(msgspec.json.encode(mail) + b"\n")
        return self._answer("TAKEN", server, envelope.rcpt_tos)

    def _answer(self, stage: Stage, server: Any, recipients: Sequence[str]) -> str:
        for rule in self._rules:
            applies = rule.at == stage and (rule.to is None or rule.to in recipients)
            if applies and self._chance.random() < rule.chance:
                if rule.answer is not None:
                    return rule.answer
                server.transport.abort()
                return "421 this is never heard"
        return "250 OK"


def protocol_options(order: Open) -> dict[str, Any]:
    # aiosmtpd does not know of TLS from the first byte on, and would not let anybody log in there.
    options: dict[str, Any] = {"auth_require_tls": order.tls == "starttls"}
    if order.login is not None:
        options |= {"authenticator": insisting_on(*order.login), "auth_required": True}
    if order.tls == "starttls":
        options |= {"tls_context": presenting(order.certificate), "require_starttls": True}
    return options


def presenting(certificate: str | None) -> ssl.SSLContext:
    assert certificate is not None, "TLS needs a certificate"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def insisting_on(user: str, password: str) -> Any:
    def check(server: Any, session: Any, envelope: Any, mechanism: str, given: LoginPassword) -> AuthResult:
        right = (given.login, given.password) == (user.encode(), password.encode())
        return AuthResult(success=right, handled=right)

    return check


class Site:
    """What listens, by port."""

    def __init__(self) -> None:
        self._open: dict[int, asyncio.Server] = {}

    async def obey(self, order: Open | Close) -> int:
        match order:
            case Open():
                return await self._listen(order)
            case Close(port):
                self._open.pop(port).close()
                return port

    async def _listen(self, order: Open) -> int:
        loop, options = asyncio.get_running_loop(), protocol_options(order)
        postmaster = Postmaster(order)
        server = await loop.create_server(
            lambda: SMTP(postmaster, hostname="mail.example", loop=loop, **options),
            "127.0.0.1",
            order.port,
            ssl=presenting(order.certificate) if order.tls == "tls" else None,
        )
        port = int(server.sockets[0].getsockname()[1])
        self._open[port] = server
        return port


async def main() -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    read, site = msgspec.json.Decoder(Open | Close).decode, Site()
    async for line in orders:
        port = await site.obey(read(line))
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
