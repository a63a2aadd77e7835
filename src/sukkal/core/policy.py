"""Who may do what: a rule for each policy name of the operation table."""

from sukkal.core.context import Context
from sukkal.errors import Forbidden
from sukkal.operations import Operation

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


def authorize(operation: Operation, ctx: Context) -> None:
    """Raise Forbidden unless the caller's roles admit it; asked before a request is read.

    Whoever comes by a pre-signed URL never gets at what is for operators.
    """
    role = REQUIRED_ROLE.get(operation.policy)
    if (role is not None and role not in ctx.roles) or (ctx.signed and operation.admin):
        raise unauthorized()


def unauthorized() -> Forbidden:
    return Forbidden("You are not authorized to complete this action.")
