"""Which addresses the service may connect to on behalf of tenants.

Public unicast addresses only, besides what the operator allows: a tenant must not reach through us what is
behind us. IPv6 forms that stand for an IPv4 address (mapped, translated, tunnelled) are refused whatever they
stand for, for who knows where a router takes them.

Source: IANA's registries of special-purpose addresses for IPv4 and IPv6, kept here as a table because what
`ipaddress` calls global depends on the version of Python.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from threading import Lock
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from aiohttp.abc import AbstractResolver, ResolveResult

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[
    [str], Awaitable[Sequence[str]]
]  # a host's name → its addresses; OSError when there are none

LOOKUPS = 16  # names looked up at once, of each kind
PROMPT = 1.0  # seconds within which a name is answered promptly
PROMPT_NAMES = 10_000  # remembered

_NOT_PUBLIC_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; the unspecified address, which connects to loopback
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers (CGNAT); a cloud's metadata too
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent, at an address that looks public
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]

# Outside of it: unspecified, loopback, mapped and compatible IPv4, NAT64, discard, segment routing, unique
# local (and metadata of a cloud), link-local, site-local, multicast.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # followed by the IPv4 address

# Names that stand for this machine, whoever is asked for their addresses. Source: RFC 6761, 6.3.
_LOCAL = re.compile(r"(?:.*\.)?localhost\.?", re.IGNORECASE)

_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


class ForbiddenAddress(OSError):
    """The service does not connect there; the text says so without naming the address."""

    def __init__(self) -> None:
        super().__init__("the host has an address that this service does not connect to")


class OddAddress(ValueError):
    """A host that some programs read as an IPv4 address, and that is not written as one."""


def literal(host: str) -> Address | None:
    """The address that a URI's host is, without brackets; None for a name.

    Raises OddAddress for an IPv4 address in decimal, octal, hexadecimal or short form.
    """
    if ":" in host:
        try:
            return IPv6Address(host)
        except AddressValueError as exc:
            raise OddAddress from exc
    last = host.rstrip(".").rpartition(".")[2]
    if not _NUMBER.fullmatch(last):
        return None
    try:
        return IPv4Address(host)
    except AddressValueError as exc:
        raise OddAddress from exc


def is_local(host: str) -> bool:
    """Whether the name stands for this machine."""
    return _LOCAL.fullmatch(host) is not None


class Addresses:
    """Judges addresses: public ones pass, and those of the networks an operator allows."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """`allowed` are networks, such as 10.0.0.0/8; ValueError for what is none."""
        self._allowed = [ip_network(network) for network in allowed]

    def permits(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        return any(address in network for network in self._allowed) or is_public(address)

    def allows(self, address: str) -> bool:
        """Whether this, as text, is an address that may be connected to."""
        try:
            return self.permits(ip_address(address))
        except ValueError:
            return False

    def check(self, address: str) -> None:
        """Raise ForbiddenAddress unless it does."""
        if not self.allows(address):
            raise ForbiddenAddress


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return (
        address in _GLOBAL_UNICAST
        and not any(address in network for network in _NOT_PUBLIC_6)
        and int(address) >> 32 & 0xFFFF_FFFF not in _ISATAP
    )


class CheckedResolver(AbstractResolver):
    """Finds addresses by name, and gives out none unless all of them may be connected to.

    Of this machine's own, it gives out those that may: nobody else has a say in what they are.
    """

    def __init__(self, addresses: Addresses, lookup: Lookup) -> None:
        self._addresses = addresses
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = list(dict.fromkeys(await self._lookup(host)))
        if not found:
            raise OSError("the host has no address")
        if is_local(host):
            found = [address for address in found if self._addresses.allows(address)] or found
        for address in found:
            self._addresses.check(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


class SystemLookup:
    """Asks the machine's resolver, in threads of its own: names that take long hold up nothing else.

    A thread cannot be called back, so whoever owns many names that are never answered could keep all of them.
    Names that were answered promptly the last time are asked for in threads that no others get, and names of
    one parent have half of the threads at most: a name is made up for nothing, a parent is not.
    """

    def __init__(self, ask: Callable[[str], Sequence[str]] | None = None) -> None:
        """`ask` looks a name up, and may block."""
        self._ask = ask or _ask
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
        self._prompt_threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="prompt-lookup")
        self._prompt: dict[str, None] = {}  # names, the last found last
        self._noting = Lock()
        self._shares = WeakValueDictionary[tuple[bool, str], asyncio.Semaphore]()  # by parents of names

    async def __call__(self, name: str) -> list[str]:
        prompt = name in self._prompt
        share = self._shares.setdefault((prompt, _parent(name)), asyncio.Semaphore(LOOKUPS // 2))
        await share.acquire()
        asked = (self._prompt_threads if prompt else self._threads).submit(self._timed, name)
        # When the thread ends, which may be long after the caller has given up.
        asked.add_done_callback(partial(_give_back, asyncio.get_running_loop(), share))
        found = await asyncio.wrap_future(asked)
        return list(found)

    def _timed(self, name: str) -> Sequence[str]:
        begun = monotonic()
        try:
            return self._ask(name)
        finally:
            self._note(name, monotonic() - begun)

    def _note(self, name: str, seconds: float) -> None:
        with self._noting:
            self._prompt.pop(name, None)
            if seconds <= PROMPT:
                if len(self._prompt) >= PROMPT_NAMES:
                    del self._prompt[next(iter(self._prompt))]
                self._prompt[name] = None

    def close(self) -> None:
        for threads in (self._threads, self._prompt_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def _parent(name: str) -> str:
    """What hosts of one owner mostly have in common: the last two labels."""
    return ".".join(name.lower().rstrip(".").rsplit(".", 2)[-2:])


def _give_back(loop: asyncio.AbstractEventLoop, share: asyncio.Semaphore, _asked: Future[Any]) -> None:
    with suppress(RuntimeError):  # the loop has ended before the thread
        loop.call_soon_threadsafe(share.release)


def _ask(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in found]
