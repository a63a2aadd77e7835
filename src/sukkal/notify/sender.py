"""Posts to places that tenants name, such that they cannot turn it against anybody.

Each connection goes to an address that was judged: the resolver gives out checked addresses only, and the
socket is made for the very address that it then connects to, judged once more. So it does not matter what the
name answers to the next who asks. No redirects, no proxies, no cookies, nothing unpacked; bounded in time and
in what is read.
"""

import asyncio
import io
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from aiohappyeyeballs import AddrInfoType
from msgspec import Struct

from sukkal import __version__
from sukkal.notify.addresses import Addresses, CheckedResolver, ForbiddenAddress, Lookup, SystemLookup
from sukkal.notify.target import Target

USER_AGENT = f"sukkal/{__version__}"
NAMES_REMEMBERED = 10  # seconds a name's checked addresses are used again
KEPT_ALIVE = 4.0  # seconds an idle connection is kept: less than most servers keep theirs
REST_SECONDS = 2.0  # for the rest of an answer whose status is known; only to use the connection again
COPIED_AT_ONCE = 1024 * 1024  # bytes; longer bodies go out in pieces

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset(
    # What frames the request and what is for the next hop only, then what says whom it is from.
    (
        *("connection", "content-length", "expect", "host", "http2-settings", "keep-alive"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
        *("webhook-id", "webhook-signature", "webhook-timestamp"),
    )
)


class Answer(Struct, frozen=True):
    status: int
    retry_after: str | None = None  # the header


class NotReached(Exception):
    """There was no answer; trying again may help. The text is for people, and names no address."""


class Refused(Exception):
    """This will not be sent, now or later; the text says why."""


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Verifies certificates and names against the system's authorities, and those of a file in PEM.

    Raises OSError for a file that holds none.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def permitted_headers(given: Mapping[str, object]) -> dict[str, str]:
    """Those of a tenant's headers that may be sent: pairs of texts that do not change what the request is."""
    return {
        name: value
        for name, value in given.items()
        if isinstance(value, str)
        and _TOKEN.fullmatch(name)
        and name.lower() not in _OURS
        and not _CONTROL.search(value)
    }


class Sender:
    def __init__(
        self,
        addresses: Addresses,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 10.0,
        total_timeout: float = 30.0,
        max_response: int = 65536,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        """Time-outs in seconds: for the connection, between two pieces of the answer, and for all together.

        Of an answer's body at most `max_response` bytes are read. `lookup` finds a name's addresses.
        """
        self._addresses = addresses
        self._timeout = aiohttp.ClientTimeout(
            total=total_timeout,
            connect=connect_timeout,
            sock_connect=connect_timeout,
            sock_read=read_timeout,
        )
        self._max_response = max_response
        self._tls = tls
        self._system_lookup = SystemLookup() if lookup is None else None
        self._lookup: Lookup = lookup or self._system_lookup  # type: ignore[assignment]
        self._session: aiohttp.ClientSession | None = None

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises NotReached and Refused. Once there is a status it counts, however the answer goes on."""
        session = self._session or self._open()
        data: bytes | io.BytesIO = body if len(body) < COPIED_AT_ONCE else io.BytesIO(body)
        try:
            response = await session.post(target.url, data=data, headers=headers, allow_redirects=False)
        except TimeoutError as exc:
            raise NotReached("no answer in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            if _is_forbidden(exc):
                raise Refused(str(ForbiddenAddress())) from exc
            raise NotReached(_told(exc)) from exc
        except ValueError as exc:
            raise Refused("this cannot be said in HTTP") from exc
        try:
            if not response.content.at_eof():
                await self._read_rest(response)
        finally:
            response.release()  # to be used again if it was read to its end, else to be closed
        return Answer(response.status, response.headers.get("Retry-After"))

    async def _read_rest(self, response: aiohttp.ClientResponse) -> None:
        left = self._max_response
        try:
            async with asyncio.timeout(REST_SECONDS):
                while left >= 0 and (piece := await response.content.readany()):
                    left -= len(piece)
        except (TimeoutError, aiohttp.ClientError, OSError):
            response.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(self._addresses, self._lookup),
            ttl_dns_cache=NAMES_REMEMBERED,
            keepalive_timeout=KEPT_ALIVE,
            limit=0,  # others count
            ssl=self._tls or tls_context(),
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=self._timeout,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=8192,
        )
        return self._session

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """A socket for an address that is connected to next."""
        family, kind, protocol, _, address = info
        self._addresses.check(str(address[0]))
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._system_lookup is not None:
            self._system_lookup.close()


def _is_forbidden(exc: BaseException | None) -> bool:
    while exc is not None:
        if isinstance(exc, ForbiddenAddress):
            return True
        exc = exc.__cause__
    return False


def _told(exc: Exception) -> str:
    """What went wrong, without what the caller should not learn of our network."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(exc.certificate_error, "verify_message", "")
            return f"its certificate is not valid: {reason}" if reason else "its certificate is not valid"
        case aiohttp.ClientConnectorSSLError():
            return "no TLS connection"
        case aiohttp.ClientConnectorDNSError():
            return "its name has no address"
        case aiohttp.ClientConnectorError():
            return "no connection"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "its answer is not HTTP"
        case _:
            return "the connection was lost"
