"""Error → status code, once for every transport."""

from sukkal import errors

STATUS: dict[type[errors.ServiceError], int] = {
    errors.Invalid: 400,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
    errors.ServiceError: 500,
}


def status_of(error: errors.ServiceError) -> int:
    """The status of the nearest ancestor that has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
