"""Who may do what: a rule for each policy name of the operation table."""

from sukkal.core.context import Context
from sukkal.errors import Forbidden

ADMIN = "admin"

# Policies not open to everyone, with the role they ask for.
REQUIRED_ROLE = {"health:get": ADMIN}


def authorize(policy: str, ctx: Context) -> None:
    """Raise Forbidden unless the caller's roles admit it to what `policy` names."""
    role = REQUIRED_ROLE.get(policy)
    if role is not None and role not in ctx.roles:
        raise unauthorized()


def unauthorized() -> Forbidden:
    return Forbidden("You are not authorized to complete this action.")
