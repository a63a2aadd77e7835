"""Mail, against a real SMTP server and a real program, each a process of its own."""

import asyncio
import os
import ssl
import stat
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mail_server import Mailbox, MailServer, running
from smtp_server import Rule, Stage

from sukkal.errors import Invalid
from sukkal.notify.deliverer import Outcome, Result
from sukkal.notify.mail import Command, Mail, Smtp

from .certificates import Authority
from .parcels import NOTICE, parcel

URI = "mailto:ops@example.org"


def parsed(content: bytes) -> EmailMessage:
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with running(tmp_path_factory.mktemp("mails")) as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def plain(port: int) -> Mail:
    return Mail(Smtp("127.0.0.1", port, tls="none"))


async def sent(mails: MailServer, uri: str, *notices: bytes, **options: Any) -> EmailMessage:
    with mails.mailbox() as mailbox:
        outcome = await plain(mailbox.port).deliver(parcel(uri, *notices, **options))
        assert outcome == Outcome(Result.DELIVERED)
    return only(mailbox)


def only(mailbox: Mailbox) -> EmailMessage:
    (mail,) = mailbox.kept
    return parsed(mail.content)


# --- what is sent ----------------------------------------------------------------------------------------


async def test_notice_is_the_text_of_the_mail(mails: MailServer) -> None:
    mail = await sent(mails, "mailto:ops@example.org?subject=Alert%20me", **{"from": "Us <us@example.org>"})
    assert (mail["To"], mail["From"], mail["Subject"]) == (
        "ops@example.org",
        "Us <us@example.org>",
        "Alert me",
    )
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().strip() == NOTICE.decode()
    assert mail["Message-ID"] == "<parcel-1@sukkal.invalid>", "the same on every attempt"
    assert mail["Auto-Submitted"] == "auto-generated"


async def test_envelope_names_recipient_and_sender(mails: MailServer) -> None:
    with mails.mailbox() as mailbox:
        await plain(mailbox.port).deliver(parcel(URI, **{"from": "Us <us@example.org>"}))
        await plain(mailbox.port).deliver(parcel(URI))
        await plain(mailbox.port).deliver(parcel(URI, **{"from": "nobody in particular"}))
    envelopes = [(mail.sender, mail.recipients) for mail in mailbox.kept]
    assert envelopes == [(sender, ["ops@example.org"]) for sender in ("us@example.org", "<>", "<>")]


@pytest.mark.parametrize(
    ("query", "option", "subject"),
    [
        ("?subject=a", "b", "a"),
        ("?SUBJECT=a+b%26c", "b", "a+b&c"),
        ("?cc=x%40y.org&Subject=a", None, "a"),
        ("", "Grüße", "Grüße"),
        ("?subject=", "b", "b"),
        ("", 5, None),
        ("", None, None),
    ],
)
async def test_subject_is_that_of_the_uri_or_else_of_the_options(
    mails: MailServer, query: str, option: Any, subject: str | None
) -> None:
    mail = await sent(mails, URI + query, subject=option)
    assert mail["Subject"] == subject
    assert mail["Cc"] is None


async def test_text_comes_as_it_is_however_long_and_in_whatever_letters(mails: MailServer) -> None:
    notice = msgspec.json.encode({"body": "ü" * 5000 + "\r\n.\r\nQUIT " + "x" * 5000})
    mail = await sent(mails, URI, notice)
    assert mail.get_content().strip() == notice.decode()


async def test_several_notices_are_one_array(mails: MailServer) -> None:
    mail = await sent(mails, URI, b'{"a":1}', b'{"b":2}')
    assert msgspec.json.decode(mail.get_content()) == [{"a": 1}, {"b": 2}]


async def test_mail_of_the_services_own_is_sent_as_it_says(mails: MailServer) -> None:
    letter = msgspec.json.encode(
        {"Subject": "Confirm", "From": "Us <us@example.org>", "Body": "Follow\nthe link"}
    )
    mail = await sent(mails, "mailto:ops@example.org?subject=Alert", letter, **{"from": "x@example.org"})
    assert (mail["Subject"], mail["From"]) == ("Confirm", "Us <us@example.org>")
    assert mail.get_content().splitlines() == ["Follow", "the link"]
    forged = b'{"ttl":60,"body":{},"Subject":"Confirm","From":"us","Body":"x"}'
    assert (await sent(mails, URI, forged))["Subject"] is None


# --- what must not be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "mailto:",
        "mailto:nobody",
        "mailto:a@b.org,c@d.org",
        "mailto:a@b.org%2Cc@d.org",
        "mailto:a%0d%0aBcc:x@b.org",
        "mailto:a@b.org%0aBcc:%20x@y.org",
        "mailto:a@b.org\r\nBcc: x@y.org",
        "mailto:a@b.org?subject=x%0d%0aBcc:%20x@y.org",
        "mailto:a@b.org?subject=x%0aBcc:%20x@y.org",
        "mailto:a@b.org?subject=x%e2%80%a8Bcc",
        "mailto:a@b.org?subject=%ff",
        "mailto:a@b.org?subject=" + "x" * 1000,
        "mailto://a@b.org",
        "mailto:-oQ/tmp@b.org",
        "mailto:|prog@b.org",
        "mailto:/etc/passwd@b.org",
        'mailto:"a b"@b.org',
        "mailto:a@-b.org",
        "mailto:a@b.org>",
        "mailto:a@[127.0.0.1]",
        "mailto:%@b.org",
        "mailto:ü@b.org",
    ],
)
async def test_uri_that_is_no_plain_address_is_refused(uri: str) -> None:
    mail = plain(1)
    with pytest.raises(Invalid):
        mail.check(uri)
    assert (await mail.deliver(parcel(uri))).result is Result.FAILED


@pytest.mark.parametrize(
    "text", ["x\r\nBcc: x@y.org", "x\nBcc: x@y.org", "x\r", "x\0", "x\x85y", "x\ud800", "x" * 1000]
)
@pytest.mark.parametrize("option", ["subject", "from"])
async def test_options_cannot_add_headers(mails: MailServer, option: str, text: str) -> None:
    with mails.mailbox() as mailbox:
        outcome = await plain(mailbox.port).deliver(parcel(URI, **{option: text}))
    assert outcome.result is Result.FAILED
    assert not mailbox.kept


# --- the server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("code", "result"), [(550, Result.FAILED), (554, Result.FAILED), (451, Result.RETRY)]
)
async def test_refusal_is_for_good_or_for_now(
    mails: MailServer, stage: Stage, code: int, result: Result
) -> None:
    with mails.mailbox(Rule(stage, f"{code} not this one")) as mailbox:
        outcome = await plain(mailbox.port).deliver(parcel(URI))
    assert outcome == Outcome(result, f"the mail server said {code} not this one", reached=True)


async def test_server_that_is_not_there_is_tried_again(mails: MailServer) -> None:
    with mails.mailbox() as mailbox:
        pass
    assert (await plain(mailbox.port).deliver(parcel(URI))).result is Result.RETRY


@pytest.mark.parametrize("greeting", [b"", b"554 go away\r\n", b"\xff\xfe\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"])
async def test_server_that_is_none_is_tried_again(greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        outcome = await plain(server.sockets[0].getsockname()[1]).deliver(parcel(URI))
    assert outcome.result is Result.RETRY


async def test_server_that_hangs_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sukkal.notify.mail.SECONDS", 0.2)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        outcome = await plain(server.sockets[0].getsockname()[1]).deliver(parcel(URI))
    assert outcome.result is Result.RETRY


@pytest.mark.parametrize("way", ["tls", "starttls"])
async def test_mail_goes_over_tls_with_user_and_password(
    mails: MailServer, authority: Authority, way: Any
) -> None:
    presented = str(authority.server_file("localhost"))
    trusted = ssl.create_default_context(cafile=str(authority.file))
    with mails.mailbox(tls=way, certificate=presented, login=("me", "secret")) as mailbox:
        smtp = Smtp("localhost", mailbox.port, tls=way, context=trusted, user="me", password="secret")
        assert await Mail(smtp).deliver(parcel(URI)) == Outcome(Result.DELIVERED)
        assert only(mailbox)["To"] == "ops@example.org"
        wrong = Smtp("localhost", mailbox.port, tls=way, context=trusted, user="me", password="guess")
        assert (await Mail(wrong).deliver(parcel(URI))).result is Result.RETRY
        untrusting = Smtp("localhost", mailbox.port, tls=way, user="me", password="secret")
        assert (await Mail(untrusting).deliver(parcel(URI))).result is Result.RETRY
    assert [mail.tls for mail in mailbox.kept] == [True]


async def test_server_without_tls_gets_no_mail_where_tls_is_asked_for(mails: MailServer) -> None:
    with mails.mailbox() as mailbox:
        outcome = await Mail(Smtp("127.0.0.1", mailbox.port, tls="starttls")).deliver(parcel(URI))
    assert outcome.result is Result.RETRY
    assert not mailbox.kept


# --- the program -------------------------------------------------------------------------------------------


def program(directory: Path, script: str) -> Command:
    path = directory / "sendmail"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Command([str(path), "-t", "-oi"])


async def test_program_reads_the_mail_and_its_recipient(tmp_path: Path) -> None:
    command = program(tmp_path, f'echo "$@" > {tmp_path}/words; cat > {tmp_path}/mail')
    outcome = await Mail(command).deliver(parcel(URI + "?subject=Alert"))
    assert outcome == Outcome(Result.DELIVERED)
    assert (tmp_path / "words").read_text() == "-t -oi\n"
    content = (tmp_path / "mail").read_bytes()
    assert b"\r" not in content
    mail = parsed(content)
    assert (mail["To"], mail["Subject"]) == ("ops@example.org", "Alert")
    assert mail.get_content().strip() == NOTICE.decode()


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("exit 67", Result.FAILED),
        ("exit 75", Result.RETRY),
        ("cat >/dev/null; exit 1", Result.RETRY),
        ("kill -9 $$", Result.RETRY),
    ],
)
async def test_exit_of_the_program_decides(tmp_path: Path, script: str, result: Result) -> None:
    large = b'{"body":"' + b"x" * 300_000 + b'"}'
    outcome = await Mail(program(tmp_path, script)).deliver(parcel(URI, large))
    assert outcome.result is result


async def test_program_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    outcome = await Mail(Command([str(tmp_path / "nothing")])).deliver(parcel(URI))
    assert outcome == Outcome(Result.RETRY, "the mail program cannot be started")


async def test_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sukkal.notify.mail.SECONDS", 0.2)
    command = program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    assert (await Mail(command).deliver(parcel(URI))).result is Result.RETRY
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
