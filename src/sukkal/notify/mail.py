"""Mail: one for each notification, to `mailto:` subscribers. Source: Messaging API v2; RFC 6068.

    mailto:ops@example.org?subject=Alert

The subject is that of the URI, else `options.subject`; the sender is `options.from`. A notice that is an
object of Subject, From and Body alone is a mail of the service's own, and is sent as it says.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Sequence
from email import policy
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Literal, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosmtplib
import msgspec
from msgspec import Struct

from sukkal.errors import Invalid
from sukkal.model import Subscription
from sukkal.notify.deliverer import Outcome, Parcel, Result

SECONDS = 60.0  # for one mail
LONGEST_LINE = 900  # characters of a subject or a sender

# Of a recipient: what needs no quotes, without what some mail servers take for a program, a file or a route.
_ADDRESS = re.compile(
    r"[A-Za-z0-9_+=&~'#$*?^{}.][A-Za-z0-9_+=&~'#$*?^{}.\-/]*@[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")  # and what is no text

# Exit statuses of sendmail (sysexits.h) that will be the same next time: data, no user, no host, unavailable,
# no permission.
_FINAL_EXITS = (65, 67, 68, 69, 77)


class Letter(Struct, frozen=True, forbid_unknown_fields=True):
    """A mail of the service's own."""

    Subject: str
    From: str
    Body: str


_read_letter = msgspec.json.Decoder(Letter).decode


class Post(Protocol):
    """A way to send mail."""

    @property
    def name(self) -> str:
        """Whom limits and circuit breakers count by."""
        ...

    async def send(self, mail: EmailMessage, sender: str, recipient: str) -> Outcome: ...


class Mail:
    """A Deliverer of mail."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def check(self, subscriber: str) -> None:
        _read(subscriber)

    def host(self, subscriber: str) -> str:
        return self._post.name

    def size(self, subscription: Subscription, told: int) -> int:
        return 3 * told  # as text, as a mail, and as its bytes

    async def deliver(self, parcel: Parcel) -> Outcome:
        try:
            mail, sender, recipient = _written(parcel)
        except Invalid as exc:
            return Outcome(Result.FAILED, exc.message)
        return await self._post.send(mail, sender, recipient)

    async def close(self) -> None:
        pass


def _written(parcel: Parcel) -> tuple[EmailMessage, str, str]:
    """The mail, the envelope's sender and its recipient."""
    recipient, subject = _read(parcel.subscription.subscriber)
    options = parcel.subscription.options
    given_subject, given_sender = options.get("subject"), options.get("from")
    letter = Letter(
        subject or (given_subject if isinstance(given_subject, str) else ""),
        given_sender if isinstance(given_sender, str) else "",
        _text(parcel.notices),
    )
    if len(parcel.notices) == 1:
        with contextlib.suppress(msgspec.DecodeError):
            letter = _read_letter(parcel.notices[0])
    _check_line("subject", letter.Subject)
    _check_line("sender", letter.From)
    mail = EmailMessage(policy.SMTP)
    try:
        mail["To"] = recipient
        if letter.From:
            mail["From"] = letter.From
        if letter.Subject:
            mail["Subject"] = letter.Subject
        mail["Date"] = formatdate(parcel.created)
        mail["Message-ID"] = f"<{parcel.delivery}@sukkal.invalid>"  # the same on every attempt
        mail["Auto-Submitted"] = "auto-generated"  # so that nobody answers that they are on holiday
        mail.set_content(letter.Body)
    except (MessageError, ValueError, IndexError) as exc:
        raise Invalid("The subject or the sender of the mail cannot be written.") from exc
    return mail, _envelope(letter.From), recipient


def _text(notices: Sequence[bytes]) -> str:
    told = notices[0] if len(notices) == 1 else b"[" + b",".join(notices) + b"]"
    return told.decode() + "\n"


def _envelope(sender: str) -> str:
    """Whom refusals go back to; nobody, where the sender is no plain address."""
    _, address = parseaddr(sender)
    return address if _ADDRESS.fullmatch(address) else ""


def _read(subscriber: str) -> tuple[str, str]:
    """The recipient and the subject of a mailto URI; Invalid for what is none, or more than that."""
    try:
        parts = urlsplit(subscriber)
        query = parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True, errors="strict")
        recipient = unquote(parts.path, errors="strict")
    except ValueError as exc:
        raise Invalid("The subscriber cannot be read as a mailto URI.") from exc
    if _CONTROL.search(subscriber):
        raise Invalid("The subscriber must be a URI: it may hold no control characters.")
    if parts.scheme != "mailto" or parts.netloc or not _ADDRESS.fullmatch(recipient):
        raise Invalid("The subscriber must be a mailto URI with one address, such as mailto:ops@example.org.")
    subject = next((value for name, value in query if name.lower() == "subject"), "")
    _check_line("subject", subject)
    return recipient, subject


def _check_line(what: str, text: str) -> None:
    if _CONTROL.search(text) or len(text) > LONGEST_LINE:
        raise Invalid(f"The {what} of a mail must be one line of at most {LONGEST_LINE} characters.")


class Smtp:
    """Sends mail by a server."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: Literal["tls", "starttls", "none"] = "tls",
        context: ssl.SSLContext | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        """`tls`: from the first byte on, asked for and insisted on, or not at all."""
        self.name = f"smtp:{host}:{port}"
        self._host = host
        self._port = port
        self._tls = tls
        self._context = context
        self._user = user
        self._password = password

    async def send(self, mail: EmailMessage, sender: str, recipient: str) -> Outcome:
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls == "tls",
            start_tls=self._tls == "starttls",
            tls_context=None if self._tls == "none" else self._context or ssl.create_default_context(),
            timeout=SECONDS,
        )
        try:
            async with asyncio.timeout(SECONDS):
                await client.connect()
                await client.sendmail(sender, [recipient], mail.as_bytes())
                with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                    await client.quit()  # for the server's log; the mail is taken
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as exc:
            return _refused(exc)
        finally:
            client.close()
        return Outcome(Result.DELIVERED)


def _refused(exc: Exception) -> Outcome:
    match exc:
        case aiosmtplib.SMTPRecipientsRefused(recipients=[refusal, *_]):
            code, text = refusal.code, refusal.message
        case aiosmtplib.SMTPSenderRefused() | aiosmtplib.SMTPDataError():
            code, text = exc.code, exc.message
        case _:  # before it came to this mail
            return Outcome(Result.RETRY, "the mail server cannot be used")
    reason = f"the mail server said {code} {text:.200}"
    return Outcome(Result.FAILED if code >= 500 else Result.RETRY, reason, reached=code != 421)


class Command:
    """Sends mail by a program that reads it, and its recipients, from its standard input."""

    def __init__(self, words: Sequence[str]) -> None:
        self.name = f"command:{words[0]}"
        self._words = words

    async def send(self, mail: EmailMessage, sender: str, recipient: str) -> Outcome:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError:
            return Outcome(Result.RETRY, "the mail program cannot be started")
        try:
            async with asyncio.timeout(SECONDS):
                await process.communicate(mail.as_bytes(policy=policy.default))
        except TimeoutError:
            return Outcome(Result.RETRY, "the mail program did not end in time")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return Outcome(Result.DELIVERED)
        final = process.returncode in _FINAL_EXITS
        return Outcome(
            Result.FAILED if final else Result.RETRY, f"the mail program ended with {process.returncode}"
        )
