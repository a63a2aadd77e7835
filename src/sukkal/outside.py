"""The part of the composition root that reaches out: it makes deliverers of the settings."""

import shlex
import ssl
from collections.abc import Callable, Mapping
from typing import TypeVar

from sukkal.config import BadSetting, Settings
from sukkal.core.clock import Clock, SystemClock
from sukkal.core.subscribing.rules import Entrust
from sukkal.core.subscribing.signing_keys import read_key
from sukkal.model import QueueKey
from sukkal.notify.addresses import Addresses
from sukkal.notify.deliverer import Deliverer, Deliverers
from sukkal.notify.mail import Command, Mail, Post, Smtp
from sukkal.notify.nobody import Nobody
from sukkal.notify.queue import Forward, OtherQueue
from sukkal.notify.sender import Sender, tls_context
from sukkal.notify.target import Ports, Targets
from sukkal.notify.trust import PREFIX, Keystone, Trust
from sukkal.notify.webhook import Webhook

Result = TypeVar("Result")


def deliverers(settings: Settings, forward: Forward, clock: Clock) -> dict[str, Deliverer]:
    """What brings notifications to subscribers, by the scheme of their URIs.

    Raises BadSetting for networks, ports, keys and files that cannot be used.
    """
    tls = _made("webhook_ca_file", lambda: tls_context(settings.webhook_ca_file))
    addresses = _made("webhook_allow", lambda: Addresses(settings.webhook_allow))
    ports = _made("webhook_ports", lambda: Ports(settings.webhook_ports))
    keys = _made("webhook_signing_keys", lambda: [read_key(key) for key in settings.webhook_signing_keys])
    sender = Sender(
        addresses,
        connect_timeout=settings.webhook_connect_timeout,
        read_timeout=settings.webhook_read_timeout,
        total_timeout=settings.webhook_timeout,
        max_response=settings.webhook_max_response,
        tls=tls,
    )
    webhook = Webhook(sender, Targets(addresses, ports), keys, clock.now)
    made: dict[str, Deliverer] = {
        "http": webhook,
        "https": webhook,
        "mailto": Mail(_mail_post(settings, tls)),
        "queue": OtherQueue(forward, clock.now),
    }
    if settings.identity_url is not None:
        if settings.trustee_password is None:
            raise BadSetting("trustee_password", "identity_url is set, and needs trustee_password.")
        keystone = Keystone(
            settings.identity_url,
            user=settings.trustee_name,
            password=settings.trustee_password,
            domain=settings.trustee_domain,
            tls=tls,
        )
        made["trust+http"] = made["trust+https"] = Trust(webhook, keystone, clock.now)
    for scheme in settings.subscriber_types:
        made.setdefault(scheme, _missing(scheme))
    return made


def _missing(scheme: str) -> Nobody:
    """What stands for a deliverer that the settings allow for and do not make."""
    if scheme.startswith(PREFIX):
        return Nobody(
            f"{scheme} subscribers are sent tokens of OpenStack, and this service has none: the operator has "
            "to name an identity service with the setting identity_url. Subscribe an http or https URI if "
            "the receiver wants no token."
        )
    return Nobody(f"There is no way to deliver to {scheme} subscribers. Subscribe a URI of another type.")


def entrusts(deliverers: Deliverers) -> dict[str, Entrust]:
    """What lets the service deliver in the name of whoever subscribes, by the schemes that want it."""
    return {scheme: each.entrust for scheme, each in deliverers.items() if isinstance(each, Trust)}


def check(settings: Settings) -> None:
    """Raise as `deliverers` does; nobody is reached."""

    async def nowhere(key: QueueKey, bodies: Mapping[str, bytes], *, ttl: int, now: float) -> None:
        raise NotImplementedError

    deliverers(settings, nowhere, SystemClock())


def shortcomings(settings: Settings) -> list[str]:
    """What does not keep the service from starting, and is hardly meant; a sentence for each."""
    found = []
    if settings.require_confirmation and settings.signed_url_secret_key is None:
        found.append(
            "require_confirmation is on without signed_url_secret_key: no subscriber can be asked for its "
            "confirmation, so none outside is told of anything unless somebody else confirms."
        )
    return found


def _mail_post(settings: Settings, tls: ssl.SSLContext) -> Post:
    if settings.smtp_mode == "third_part":
        words = _made("smtp_command", lambda: shlex.split(settings.smtp_command))
        if not words:
            raise BadSetting("smtp_command", "smtp_command names no program.")
        return Command(words)
    return Smtp(
        settings.smtp_host,
        settings.smtp_port,
        tls=settings.smtp_tls,
        context=tls,
        user=settings.smtp_user_name,
        password=settings.smtp_user_password,
    )


def _made(key: str, make: Callable[[], Result]) -> Result:
    """What a setting stands for, read once; its value is not repeated, for it may be a secret."""
    try:
        return make()
    except (ValueError, OSError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise BadSetting(key, f"{key} cannot be used: {why}.") from exc
