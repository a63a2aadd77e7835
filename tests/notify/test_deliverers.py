"""Deliverers as the settings make them."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from core.world import World

from sukkal.config import BadSetting, load
from sukkal.core.clock import SystemClock
from sukkal.errors import Invalid
from sukkal.notify.deliverer import Deliverer, Result
from sukkal.outside import deliverers

from .certificates import Authority
from .parcels import parcel
from .receiver import receiving

TRUSTEE = {"identity_url": "https://keystone.example/v3", "trustee_password": "secret"}


@asynccontextmanager
async def made(**settings: Any) -> AsyncIterator[dict[str, Deliverer]]:
    made = deliverers(load(None, {}, settings), World().service.forward, SystemClock())
    try:
        yield made
    finally:
        for deliverer in made.values():
            await deliverer.close()


async def test_each_scheme_has_a_deliverer_that_knows_its_uris() -> None:
    async with made(**TRUSTEE) as by_scheme:
        for uri in (
            *("http://trigger.me", "https://example.org/x", "mailto:ops@example.org", "queue:audit"),
            *("trust+http://example.org/", "trust+https://example.org/"),
        ):
            by_scheme[uri.partition(":")[0]].check(uri)
            assert by_scheme[uri.partition(":")[0]].host(uri)


@pytest.mark.parametrize(
    ("scheme", "uri", "text"),
    [
        ("trust+http", "trust+http://example.org/", "the setting identity_url"),
        ("trust+https", "trust+https://example.org/", "the setting identity_url"),
        ("ftp", "ftp://example.org/", "no way to deliver to ftp subscribers"),
    ],
)
async def test_subscriber_that_nobody_delivers_to_is_refused(scheme: str, uri: str, text: str) -> None:
    async with made(subscriber_types=f"https,{scheme}") as by_scheme:
        with pytest.raises(Invalid, match=text):
            by_scheme[scheme].check(uri)
        outcome = await by_scheme[scheme].deliver(parcel(uri))
        assert outcome.result is Result.FAILED
        assert text in outcome.reason


async def test_subscribers_with_tokens_go_where_others_may_go() -> None:
    async with made(**TRUSTEE) as by_scheme:
        for host in ("169.254.169.254", "localhost:8080", "127.0.0.1", "example.org:22"):
            with pytest.raises(Invalid, match=r"webhook_(allow|ports)"):
                by_scheme["trust+http"].check(f"trust+http://{host}/")


async def test_nothing_inside_is_reached_unless_it_is_allowed() -> None:
    async with receiving() as receiver:
        async with made() as by_scheme:
            with pytest.raises(Invalid):
                by_scheme["http"].check(receiver.url)
            assert (await by_scheme["http"].deliver(parcel(receiver.url))).result is Result.FAILED
        async with made(webhook_allow="127.0.0.1", webhook_ports=str(receiver.port)) as by_scheme:
            by_scheme["http"].check(receiver.url)
            assert (await by_scheme["http"].deliver(parcel(receiver.url))).result is Result.DELIVERED
            with pytest.raises(Invalid):
                by_scheme["http"].check("http://127.0.0.1:80/")


async def test_authorities_of_the_operators_are_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    presented: ssl.SSLContext = authority.server_context("localhost")
    async with receiving(tls=presented) as receiver:
        url = f"https://localhost:{receiver.port}/"
        allowed = {"webhook_allow": "127.0.0.0/8,::1"}
        async with made(**allowed) as by_scheme:
            assert (await by_scheme["https"].deliver(parcel(url))).result is Result.RETRY
        async with made(webhook_ca_file=str(authority.file), **allowed) as by_scheme:
            assert (await by_scheme["https"].deliver(parcel(url))).result is Result.DELIVERED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook_allow", "10.0.0.1/8"),
        ("webhook_allow", "1.2.3"),
        ("webhook_ports", "9000-8000"),
        ("webhook_ports", "70000"),
        ("webhook_signing_keys", "whsec_" + "A" * 33),
        ("webhook_ca_file", "/nothing/there.pem"),
        ("webhook_ca_file", __file__),
        ("smtp_command", "sendmail 'open"),
        ("smtp_command", " "),
        ("identity_url", "https://keystone.example/v3"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_the_start(name: str, value: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        deliverers(load(None, {}, {name: value}), World().service.forward, SystemClock())
    assert refusal.value.key in (name, "trustee_password")
    assert "AAAA" not in str(refusal.value)
