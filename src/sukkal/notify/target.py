"""Where a webhook goes: what is allowed in the URI, told from the URI alone."""

import re
from base64 import b64encode
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct
from yarl import URL

from sukkal.errors import Invalid
from sukkal.limits import MAX_HOST
from sukkal.notify.addresses import Address, Addresses, OddAddress, is_local, literal

DEFAULT_PORTS = ("80", "443", "1024-65535")  # of those below 1024, none that speaks something else

_NO_URI = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[a-z0-9_.\-]+|[0-9a-f:.]+", re.IGNORECASE)  # a name, or an IPv6 address

_LOOPBACK: list[Address] = [IPv4Address("127.0.0.1"), IPv6Address("::1")]


class Ports:
    """Ports that may be connected to, from numbers and ranges such as 8000-8999; none: all."""

    def __init__(self, allowed: Iterable[str] = DEFAULT_PORTS) -> None:
        """Raises ValueError for what is none of them."""
        self._ranges = []
        for text in allowed:
            first, _, last = text.partition("-")
            low, high = int(first), int(last or first)
            if not 1 <= low <= high <= 65535:
                raise ValueError(f"{text} is no port or range of ports")
            self._ranges.append(range(low, high + 1))

    def __contains__(self, port: int) -> bool:
        return not self._ranges or any(port in range_ for range_ in self._ranges)


class Target(Struct, frozen=True):
    """A URI that may be posted to, as far as can be told without asking for its host's addresses."""

    url: URL  # without userinfo and fragment
    host: str  # with its port, in one spelling
    authorization: str | None  # what the userinfo stands for


class Targets:
    """Reads URIs of webhooks."""

    def __init__(self, addresses: Addresses, ports: Ports) -> None:
        self._addresses = addresses
        self._ports = ports

    def read(self, uri: str) -> Target:
        """Raises Invalid, saying what is wrong with the URI."""
        if _NO_URI.search(uri):
            raise Invalid("The subscriber must be a URI: it may hold no spaces, control characters or \\.")
        try:
            # What is ASCII already goes out as it was written; the rest has to be encoded first.
            url = URL(uri, encoded=uri.isascii())
            host, port = url.raw_host, url.port
        except (ValueError, UnicodeError) as exc:
            raise Invalid("The subscriber cannot be read as a URI.") from exc
        if url.scheme not in ("http", "https"):
            raise Invalid("The subscriber must be an http or https URI.")
        if not host or not port or not _HOST.fullmatch(host):
            raise Invalid("The subscriber names no host.")
        if len(host.removesuffix(".")) > MAX_HOST:
            raise Invalid(f"The name of the subscriber's host may have at most {MAX_HOST} characters.")
        if port not in self._ports:
            raise Invalid(
                f"The subscriber's port {port} is not one that this service connects to. Use another, or ask "
                "the operator to allow it with the setting webhook_ports."
            )
        try:
            address = literal(host)
        except OddAddress as exc:
            raise Invalid(
                "The subscriber's host must be a name, or an address in its usual notation."
            ) from exc
        stands_for = _LOOPBACK if is_local(host) else [] if address is None else [address]
        if stands_for and not any(self._addresses.permits(each) for each in stands_for):
            raise Invalid(
                "The subscriber's host is an address that this service does not connect to. Use another, or "
                "ask the operator to allow it with the setting webhook_allow."
            )
        authorization = None
        if url.user is not None or url.password is not None:
            credentials = f"{url.user or ''}:{url.password or ''}".encode()
            authorization = f"Basic {b64encode(credentials).decode()}"
            url = url.with_user(None)
        return Target(url.with_fragment(None), f"{host.lower()}:{port}", authorization)
