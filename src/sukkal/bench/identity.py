"""Who the load is, for a server that asks: a token, or one that Keystone gives for a password."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import msgspec

_SECONDS = 30.0


class NoToken(Exception):
    """The text says why there is none."""


class Password(msgspec.Struct, frozen=True, kw_only=True):
    """What the Identity API v3 takes; named as in OpenStack's environment variables."""

    auth_url: str
    username: str
    password: str
    project_name: str
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"
    insecure: bool = False  # take any certificate


def token(password: Password) -> tuple[str, str]:
    """A token and the id of its project. Raises NoToken."""
    base = password.auth_url.rstrip("/")
    url = (base if base.endswith("/v3") else f"{base}/v3") + "/auth/tokens"
    if not url.startswith(("http://", "https://")):
        raise NoToken(f"{password.auth_url} is not an address such as https://keystone:5000/v3.")
    request = urllib.request.Request(  # noqa: S310 - the scheme is looked at above
        url, json.dumps(_question(password)).encode(), {"Content-Type": "application/json"}
    )
    context = ssl.create_default_context()
    if password.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:  # noqa: S310
            document = json.load(answer)
            return answer.headers["X-Subject-Token"], document["token"]["project"]["id"]
    except urllib.error.HTTPError as exc:
        raise NoToken(f"{url} answered {exc.code}: {exc.read(300).decode(errors='replace')}") from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise NoToken(f"{url} gave no token for a project: {str(exc) or type(exc).__name__}") from exc


def _question(password: Password) -> dict[str, Any]:
    user = {
        "name": password.username,
        "password": password.password,
        "domain": {"name": password.user_domain_name},
    }
    project = {"name": password.project_name, "domain": {"name": password.project_domain_name}}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
    }
