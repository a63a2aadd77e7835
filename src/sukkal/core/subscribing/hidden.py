"""What of a subscription not everybody is shown who may see it."""

import re
from collections.abc import Mapping
from typing import Any

from sukkal.core.subscribing.signing_keys import OPTION as SIGNING_KEYS
from sukkal.errors import Invalid

HIDDEN = "(hidden)"  # in the place of what is not shown
TRUST = "trust_id"  # options
SECRETS = (SIGNING_KEYS, TRUST, "post_headers")

_USERINFO = re.compile(r"^([^:/?#]+://)([^/?#]*)@")


def without_userinfo(subscriber: str) -> str:
    """A subscriber's URI without the user and password that may stand before its host."""
    return _USERINFO.sub(rf"\1{HIDDEN}@", subscriber)


def without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """A subscription's options without the values of those that others have told in confidence."""
    return {name: HIDDEN if name in SECRETS else value for name, value in options.items()}


def check_subscriber(subscriber: str) -> None:
    """Raise Invalid for a URI as it is shown to who may not see all of it."""
    userinfo = _USERINFO.match(subscriber)
    if userinfo is not None and userinfo[2] == HIDDEN:
        raise Invalid(
            f"The subscriber's user and password are hidden from who reads {HIDDEN}: give them anew."
        )


def check_options(options: Mapping[str, Any]) -> None:
    """The same for options."""
    for name in SECRETS:
        if options.get(name) == HIDDEN:
            raise Invalid(f"options.{name} is hidden from who reads {HIDDEN}: give it anew, or leave it out.")
