"""Who may do what: a rule for each policy name of the operation table."""

from sukkal.core.context import Context
from sukkal.errors import Forbidden

ADMIN = "admin"

# Policies not open to everyone, with the role they ask for.
REQUIRED_ROLE = {
    "health:get": ADMIN,
    "pools:get_all": ADMIN,
    "pools:create": ADMIN,
    "pools:get": ADMIN,
    "pools:update": ADMIN,
    "pools:delete": ADMIN,
    "flavors:create": ADMIN,
    "flavors:update": ADMIN,
    "flavors:delete": ADMIN,
}


def authorize(policy: str, ctx: Context) -> None:
    """Raise Forbidden unless the caller's roles admit it to what `policy` names."""
    role = REQUIRED_ROLE.get(policy)
    if role is not None and role not in ctx.roles:
        raise Forbidden("You are not authorized to complete this action.")
