"""Which addresses may be connected to on behalf of tenants."""

import asyncio
from ipaddress import IPv4Address, ip_address
from queue import SimpleQueue
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sukkal.errors import Invalid
from sukkal.notify.addresses import (
    LOOKUPS,
    Addresses,
    CheckedResolver,
    ForbiddenAddress,
    OddAddress,
    SystemLookup,
    literal,
)
from sukkal.notify.target import Ports, Targets

PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111", "2a00::1"]

FORBIDDEN = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"],
    "shared by carriers": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "2001:db8::1", "100::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a00:1"],
    "compatible": ["::127.0.0.1", "::8.8.8.8"],
    "translated": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "::ffff:0:127.0.0.1"],
    "6to4": ["2002:7f00:1::", "2002:808:808::1", "192.88.99.1"],
    "Teredo": ["2001::1", "2001:0:53aa:64c:0:fbfe:80ff:fffe"],
    "ISATAP": ["2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1"],
    "site-local": ["fec0::1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    Addresses().check(address)


@pytest.mark.parametrize(
    ("kind", "address"), [(kind, address) for kind, addresses in FORBIDDEN.items() for address in addresses]
)
def test_other_addresses_are_forbidden(kind: str, address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        Addresses().check(address)


@given(st.ip_addresses())
def test_what_is_permitted_is_global_by_the_standard_library_too(address: object) -> None:
    """Ours is the stricter table; what newer versions of Python call global may have become so since."""
    if Addresses().permits(address):  # type: ignore[arg-type]
        assert ip_address(str(address)).is_global
        assert not ip_address(str(address)).is_multicast


def test_operator_may_allow_networks_and_nothing_else_becomes_allowed() -> None:
    addresses = Addresses(["10.1.0.0/16", "fd00::/8"])
    for allowed in ("10.1.2.3", "fd00::1", "8.8.8.8"):
        addresses.check(allowed)
    for forbidden in ("10.2.0.1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "127.0.0.1", "fe80::1%eth0", "name"):
        with pytest.raises(ForbiddenAddress):
            addresses.check(forbidden)


ODD = [
    "2130706433",
    "017700000001",
    "0x7f000001",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "010.0.0.1",
]
ODD += ["127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "0x", "1.2.3.0x4", "example.0x7f", "127.0.0.01"]


@pytest.mark.parametrize("host", ODD)
def test_odd_spellings_of_addresses_are_no_names(host: str) -> None:
    with pytest.raises(OddAddress):
        literal(host)


def test_names_and_addresses_are_told_apart() -> None:
    assert literal("127.0.0.1") == IPv4Address("127.0.0.1")
    for name in ("example.org", "example.org.", "1.example.org", "0x7f.example", "host-1", "a1"):
        assert literal(name) is None


# --- URIs ------------------------------------------------------------------------------------------------


def targets(*allowed: str, ports: tuple[str, ...] | None = None) -> Targets:
    return Targets(Addresses(allowed), Ports() if ports is None else Ports(ports))


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://example.org/",
        "example.org/hook",
        "http://",
        "http:///hook",
        "http://:80/",
        "http://example.org:0/",
        "http://example.org:25/",
        "https://example.org:22/",
        "http://example.org:70000/",
        "http://example.org:8a/",
        "http://[::1",
        "http://[::1%25lo]/",
        "http://exa mple.org/",
        "http://example.org/\r\nX: y",
        "http://example.org\\@127.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://ex%41mple.org/",
        *(f"http://{host}/" for host in ODD),
        *(
            f"http://{host}:8080/x"
            for kind in ("loopback", "private")
            for host in FORBIDDEN[kind]
            if ":" not in host
        ),
        *(
            f"http://[{host}]/"
            for kind in ("loopback", "mapped", "6to4")
            for host in FORBIDDEN[kind]
            if ":" in host
        ),
        "http://user:secret@127.0.0.1/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://127\u30020\u30020\u30021/",
        "http://\u2460\u2461\u2466.0.0.1/",
    ],
)
def test_uris_that_can_lead_to_no_good_are_refused_when_read(uri: str) -> None:
    with pytest.raises(Invalid) as refusal:
        targets().read(uri)
    assert "secret" not in refusal.value.message


@pytest.mark.parametrize(
    ("uri", "sent_to", "host"),
    [
        ("http://trigger.me", "http://trigger.me", "trigger.me:80"),
        ("https://CCC.com/a%2fb/%41?x=%20y+z#part", "https://CCC.com/a%2fb/%41?x=%20y+z", "ccc.com:443"),
        ("http://127.0.0.1:49152/x", "http://127.0.0.1:49152/x", "127.0.0.1:49152"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC", "xn--bcher-kva.example:443"),
        ("http://[2606:4700::1111]:8080/", "http://[2606:4700::1111]:8080/", "2606:4700::1111:8080"),
    ],
)
def test_uris_go_out_as_they_were_written(uri: str, sent_to: str, host: str) -> None:
    target = targets("127.0.0.0/8").read(uri)
    assert (str(target.url), target.host) == (sent_to, host)


def test_userinfo_becomes_credentials_and_is_not_part_of_the_uri() -> None:
    target = targets().read("https://user:p%40ss@example.org/x")
    assert str(target.url) == "https://example.org/x"
    assert target.authorization == "Basic dXNlcjpwQHNz"


LOCAL = ["localhost", "LocalHost", "localhost.", "a.b.localhost", "a.LOCALHOST.", "\uff4c\uff4fcalhost"]


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "::1"])
def test_this_machines_own_name_is_refused_as_its_address_would_be(host: str, allowed: str) -> None:
    with pytest.raises(Invalid, match="the setting webhook_allow"):
        targets().read(f"http://{host}:8080/")
    assert targets(allowed).read(f"http://{host}:8080/")


def test_names_that_only_look_like_this_machines_are_names() -> None:
    for host in ("localhost.example.org", "notlocalhost", "local-host", "localhosts"):
        assert targets().read(f"http://{host}/")


def test_refusals_say_which_setting_would_allow_it() -> None:
    with pytest.raises(Invalid, match="the setting webhook_allow"):
        targets().read("http://127.0.0.1:8080/")
    with pytest.raises(Invalid, match="the setting webhook_ports"):
        targets().read("http://example.org:25/")


def test_name_of_a_host_has_an_end() -> None:
    longest = ".".join(["a" * 62] * 4) + "bb"
    for host in (longest, f"{longest}."):
        assert targets().read(f"http://{host}/").host == f"{host}:80"
    with pytest.raises(Invalid, match="at most 253 characters"):
        targets().read(f"http://{longest}b/")


def test_operator_may_choose_the_ports() -> None:
    assert targets(ports=("443", "8000-8010")).read("http://example.org:8005/")
    assert targets(ports=()).read("http://example.org:25/")
    with pytest.raises(Invalid, match="port 80 "):
        targets(ports=("443", "8000-8010")).read("http://example.org/")


# --- names -----------------------------------------------------------------------------------------------


async def test_name_with_one_forbidden_address_is_not_connected_to_at_all() -> None:
    async def lookup(name: str) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(ForbiddenAddress):
        await CheckedResolver(Addresses(), lookup).resolve("rebinding.example", 80)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "hooks.localhost"])
async def test_this_machines_own_name_leads_to_those_of_its_addresses_that_are_allowed(host: str) -> None:
    async def lookup(name: str) -> list[str]:
        return ["::1", "127.0.0.1", "fe80::1%lo"]

    targets("127.0.0.0/8").read(f"http://{host}:8080/")
    found = await CheckedResolver(Addresses(["127.0.0.0/8"]), lookup).resolve(host, 8080)
    assert [each["host"] for each in found] == ["127.0.0.1"]
    with pytest.raises(ForbiddenAddress):
        await CheckedResolver(Addresses(), lookup).resolve(host, 8080)


async def test_name_without_addresses_cannot_be_reached() -> None:
    async def lookup(name: str) -> list[str]:
        return []

    with pytest.raises(OSError):
        await CheckedResolver(Addresses(), lookup).resolve("empty.example", 80)


async def test_names_that_are_never_answered_hold_up_none_that_was_answered_before() -> None:
    answered = Event()

    def ask(name: str) -> list[str]:
        if name.startswith("hanging"):
            assert answered.wait(30)
        return ["192.0.2.1"]

    lookup = SystemLookup(ask)
    try:
        assert await lookup("good.example") == ["192.0.2.1"]
        hanging = [asyncio.create_task(lookup(f"hanging{n}.example")) for n in range(2 * LOOKUPS)]
        async with asyncio.timeout(10):
            assert await lookup("good.example") == ["192.0.2.1"]
        assert not any(task.done() for task in hanging)
        answered.set()
        assert await asyncio.gather(*hanging) == [["192.0.2.1"]] * (2 * LOOKUPS)
    finally:
        answered.set()
        lookup.close()


async def test_names_of_one_parent_leave_threads_to_others() -> None:
    answered, asked = Event(), SimpleQueue[str]()

    def ask(name: str) -> list[str]:
        asked.put(name)
        if "hanging" in name:
            assert answered.wait(30)
        return ["192.0.2.1"]

    lookup = SystemLookup(ask)
    try:
        hanging = [asyncio.create_task(lookup(f"n{n}.hanging.example.")) for n in range(3 * LOOKUPS)]
        async with asyncio.timeout(10):
            for n in range(LOOKUPS):
                assert await lookup(f"new{n}.good.example") == ["192.0.2.1"]
            for task in hanging[:LOOKUPS]:  # the threads go on, and so their parent gets no more
                task.cancel()
            await asyncio.wait(hanging[:LOOKUPS])
            assert await lookup("newest.good.example") == ["192.0.2.1"]
        names = [asked.get_nowait() for _ in range(asked.qsize())]
        assert sum("hanging" in name for name in names) == LOOKUPS // 2
        answered.set()
        assert await asyncio.gather(*hanging[LOOKUPS:]) == [["192.0.2.1"]] * (2 * LOOKUPS)
    finally:
        answered.set()
        lookup.close()
