"""Would this release start with these settings, on what is stored? Asked before an upgrade or a restart.

Nothing is changed: a store of an older form is not opened, since opening is what brings it to the newest.
"""

import asyncio
from typing import NamedTuple

from sukkal import outside, server
from sukkal.config import BadSetting, Settings
from sukkal.core.cipher import Cipher, WrongKey, proven
from sukkal.errors import BadStoreURI, StoreInUse, StoreUnavailable
from sukkal.model import without_credentials
from sukkal.stores.contract import Trait
from sukkal.stores.registry import check_keeps_messages, inspect, open_control

CHECK_SECONDS = 10.0  # a store that takes longer to open or answer is as good as unreachable


class Finding(NamedTuple):
    """What a check has found; `well` is None when it is worth knowing and no more."""

    well: bool | None
    text: str


def check(settings: Settings) -> list[Finding]:
    """Everything there is to say, in the order in which a start would meet it."""
    return asyncio.run(_check(settings))


async def _check(settings: Settings) -> list[Finding]:
    try:
        outside.check(settings)
        found = [Finding(True, "settings: valid")]
    except BadSetting as exc:
        found = [Finding(False, f"settings: {exc}")]
    found += [Finding(None, f"settings: {shortcoming}") for shortcoming in outside.shortcomings(settings)]
    uris = [settings.store]
    if settings.control_store not in (None, settings.store):
        uris.append(settings.control_store)
    for uri in uris:
        place = server.resolved(settings, uri)
        found += await _check_store(settings, place, first=uri is uris[0], last=uri is uris[-1])
    return found


async def _check_store(settings: Settings, uri: str, *, first: bool, last: bool) -> list[Finding]:
    """The `first` is the one with the messages, the `last` the one with the records."""
    shown = without_credentials(uri)
    try:
        if first:
            check_keeps_messages(uri)
        form = await inspect(uri)
    except BadStoreURI as exc:
        return [Finding(False, f"store {shown}: {exc}")]
    except StoreUnavailable as exc:
        return [Finding(False, f"store {shown}: {exc}")]
    found = []
    if form is not None:
        if form.stored is None:
            return [Finding(None, f"store {shown}: not there yet; it will be created at the first start")]
        if form.stored > form.known:
            return [
                Finding(
                    False,
                    f"store {shown}: schema version {form.stored}, this release knows {form.known}: start "
                    "the release that wrote it, or a later one",
                )
            ]
        if form.stored < form.known:
            return [
                Finding(
                    None,
                    f"store {shown}: schema version {form.stored}; the next start will bring it to "
                    f"{form.known}, after which older releases cannot open it. Back it up before",
                )
            ]
        found.append(Finding(True, f"store {shown}: schema version {form.stored}, as this release has it"))
    return found + await _check_contents(settings, uri, shown, last=last)


async def _check_contents(settings: Settings, uri: str, shown: str, *, last: bool) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            backend = await open_control(uri, durable=settings.durability == "full")
    except StoreInUse as exc:
        return [Finding(None, f"store {shown}: {exc} Its key was not checked")]
    except (BadStoreURI, StoreUnavailable) as exc:
        return [Finding(False, f"store {shown}: {exc}")]
    except TimeoutError:
        return [Finding(False, f"store {shown}: no answer within {CHECK_SECONDS:g} s")]
    found = []
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await backend.ping()
            found.append(Finding(True, f"store {shown}: reachable"))
            if settings.workers > 1 and Trait.SHARED not in backend.traits:
                text = f"workers is {settings.workers}, but one process only can use the store {shown}"
                found.append(Finding(False, text))
            if settings.durability == "full" and Trait.DURABLE not in backend.traits:
                found.append(Finding(None, "writes may be lost in a crash: the store does not sync them"))
            if last:
                await proven(Cipher(settings.message_encryption_key), backend.documents)
                found.append(Finding(True, "message_encryption_key: fits what is stored"))
    except TimeoutError:
        found.append(Finding(False, f"store {shown}: no answer within {CHECK_SECONDS:g} s"))
    except StoreUnavailable as exc:
        found.append(Finding(False, f"store {shown}: {exc}"))
    except WrongKey as exc:
        found.append(Finding(False, f"message_encryption_key: {exc}"))
    finally:
        await backend.close()
    return found
