"""Names that lead elsewhere each time they are looked up, and programs that know no other names.

The nameserver is the test's own, at an address of the loopback network that is nobody else's. A program that
is to ask it runs in a mount namespace of its own, where /etc/resolv.conf says so; the files of the machine
stay as they are. That, and the nameserver's port, need the rights of root.
"""

import asyncio
import enum
import random
import shutil
import socket
import struct
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis_servers import missing

ZONE = "turning.test"
PORT = 53  # the resolver of the C library knows no other
LOOKUP_SECONDS = 3  # until it gives up on an answer

ADDRESS = struct.pack("!HH", 1, 1)  # the type A, of the Internet
ANSWER = 0x8400  # of the one who knows
MOUNTING = """
mount --bind "$1" /etc/resolv.conf
[ ! -e /etc/nsswitch.conf ] || mount --bind "$2" /etc/nsswitch.conf
shift 2
exec "$@"
"""


class Led(enum.Enum):
    """Where a name led when it was looked up: to which addresses, or to which fault."""

    OUTSIDE = enum.auto()  # the one that may be connected to
    INSIDE = enum.auto()  # the one that may not
    BOTH = enum.auto()
    NOWHERE = enum.auto()  # there is no such name
    FAULT = enum.auto()  # the nameserver failed
    SILENCE = enum.auto()


FAULTS = {Led.FAULT: 2, Led.NOWHERE: 3}  # as DNS numbers them
Lead = Callable[[str, Sequence[Led]], Led]  # a name, and where it led before → where it leads now


class Nameserver(asyncio.DatagramProtocol):
    def __init__(self, outside: str, inside: str, lead: Lead) -> None:
        self.address = unusual_address()
        self.led: defaultdict[str, list[Led]] = defaultdict(list)
        self._addresses = {
            Led.OUTSIDE: [outside],
            Led.INSIDE: [inside],
            Led.BOTH: [outside, inside],
        }
        self._lead = lead

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        name, type_ = question(data)
        led = Led.NOWHERE
        if name.endswith(f".{ZONE}"):
            if type_ == ADDRESS:
                self.led[name].append(self._lead(name, self.led[name]))
            # Addresses of IPv6 are asked for in the same breath, after those of IPv4: there are none.
            led = self.led[name][-1]
        if led is not Led.SILENCE:
            addresses = self._addresses.get(led, []) if type_ == ADDRESS else []
            self._transport.sendto(answer(data, FAULTS.get(led, 0), addresses), peer)


def question(data: bytes) -> tuple[str, bytes]:
    """The name asked for and the type of its records."""
    labels, at = [], 12
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    return ".".join(labels), data[at + 1 : at + 5]


def answer(asked: bytes, fault: int, addresses: Sequence[str]) -> bytes:
    """Addresses that may be kept for no time. Source: RFC 1035, section 4."""
    end = asked.index(b"\0", 12) + 5
    head = asked[:2] + struct.pack("!HHHHH", ANSWER | fault, 1, len(addresses), 0, 0)
    name = b"\xc0\x0c"  # the one in the question
    records = [name + ADDRESS + struct.pack("!IH", 0, 4) + socket.inet_aton(each) for each in addresses]
    return head + asked[12:end] + b"".join(records)


@asynccontextmanager
async def nameserver(outside: str, inside: str, lead: Lead) -> AsyncIterator[Nameserver]:
    """Skips the test where it may not listen."""
    server = Nameserver(outside, inside, lead)
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: server, (server.address, PORT))
    except OSError as exc:
        missing(f"no nameserver can be had here: {exc}")
    try:
        yield server
    finally:
        transport.close()


def unusual_address() -> str:
    """One of the loopback network where nobody else listens."""
    chance = random.SystemRandom()
    return f"127.{chance.randrange(64, 128)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"


def asking(server: Nameserver, directory: Path) -> list[str]:
    """What to run a program under that is to ask this nameserver. Skips the test where that cannot be."""
    if shutil.which("unshare") is None:
        missing("unshare is not installed: apt-get install util-linux")
    resolver, switch = directory / "resolv.conf", directory / "nsswitch.conf"
    resolver.write_text(f"nameserver {server.address}\noptions timeout:{LOOKUP_SECONDS} attempts:1\n")
    switch.write_text("hosts: files dns\n")
    command = ["unshare", "--mount", "sh", "-ec", MOUNTING, "sh", str(resolver), str(switch)]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        missing(f"no mount namespace can be had here: {tried.stderr.strip()}")
    return command
