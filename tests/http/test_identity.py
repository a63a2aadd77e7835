"""Headers that say who calls."""

import pytest

from sukkal.errors import InvalidIdentity
from sukkal.http import identity
from sukkal.wire.identity import ClientIds

UUID = "3381af92-2b9e-11e3-b191-71861300734c"


def client(value: str, ids: ClientIds | None = None) -> str:
    return (ids or ClientIds()).read(value.encode())


@pytest.mark.parametrize(
    "spelling",
    [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", f"urn:uuid:{{{UUID}}}"],
)
def test_spellings_of_one_uuid_are_one_client(spelling: str) -> None:
    assert client(spelling) == client(UUID)


def test_different_uuids_are_different_clients() -> None:
    assert client(UUID) != client(UUID.replace("3", "4"))


@pytest.mark.parametrize(
    "value", ["", "0xdeadbeef", "textid", UUID[:-1], UUID + "0", "é" * 32, "g" * 32, " "]
)
def test_other_text_is_no_client_in_strict_mode(value: str) -> None:
    with pytest.raises(InvalidIdentity) as fault:
        client(value)
    assert (fault.value.title, fault.value.message) == ("Wrong UUID value", "Malformed hexadecimal UUID.")


def test_bytes_that_are_no_text_are_no_client_in_strict_mode() -> None:
    with pytest.raises(InvalidIdentity):
        ClientIds().read(b"\xff" * 32)


@pytest.mark.parametrize("ids", [ClientIds(), ClientIds(uuid_safe=False)])
def test_missing_client_is_not_a_malformed_one(ids: ClientIds) -> None:
    with pytest.raises(InvalidIdentity) as fault:
        ids.read(None)
    assert fault.value.title == "Missing header value"
    assert fault.value.message == 'The "Client-Id" header is required.'


def test_any_text_of_ten_to_thirty_six_characters_is_a_client_when_not_strict() -> None:
    ids = ClientIds(uuid_safe=False)
    for text in ("x" * 10, "x" * 36, "not a uuid", UUID):
        assert client(text, ids) == text
    assert client(UUID, ids) != client(UUID.upper(), ids)


@pytest.mark.parametrize("text", ["", "x" * 9, "x" * 37])
def test_shorter_and_longer_text_is_no_client(text: str) -> None:
    with pytest.raises(InvalidIdentity) as fault:
        client(text, ClientIds(uuid_safe=False))
    assert fault.value.title == "Wrong UUID value"
    assert fault.value.message == "Length of client id must be at least 10 and no greater than 36."


def test_bounds_of_a_clients_length_are_the_operators() -> None:
    ids = ClientIds(uuid_safe=False, min_length=2, max_length=3)
    assert client("ab", ids) == "ab"
    with pytest.raises(InvalidIdentity, match="at least 2 and no greater than 3"):
        client("abcd", ids)


# --- project -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"x-project-id", b"x-tenant-id", b"x-tenant"])
def test_project_is_read_from_any_of_its_headers(name: bytes) -> None:
    assert identity.project({name: b"a b/c?"}) == "a b/c?"


def test_first_header_that_is_there_counts() -> None:
    headers = {b"x-tenant": b"third", b"x-tenant-id": b"second", b"x-project-id": b"first"}
    assert identity.project(headers) == "first"
    del headers[b"x-project-id"]
    assert identity.project(headers) == "second"


def test_empty_header_is_there() -> None:
    with pytest.raises(InvalidIdentity) as fault:
        identity.project({b"x-project-id": b"", b"x-tenant-id": b"second"})
    assert fault.value.title == "Empty project header not allowed"


def test_missing_project_is_said_so() -> None:
    with pytest.raises(InvalidIdentity) as fault:
        identity.project({b"client-id": b"x"})
    assert (fault.value.title, fault.value.message) == (
        "Project-Id Missing",
        "The header X-PROJECT-ID was missing",
    )


def test_different_bytes_are_different_projects() -> None:
    values = [b"\xe9", "é".encode(), b"\xff", b"\xfe", b"a", b"A"]
    assert len({identity.project({b"x-project-id": value}) for value in values}) == len(values)


# --- roles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers, roles",
    [
        ({}, set()),
        ({b"x-roles": b""}, set()),
        ({b"x-roles": b"admin"}, {"admin"}),
        ({b"x-roles": b"Member, ADMIN ,x"}, {"member", "admin", "x"}),
        ({b"x-role": b"Admin"}, {"admin"}),
        ({b"x-roles": b"member", b"x-role": b"admin"}, {"member"}),
        ({b"x-roles": b"administrator,admins"}, {"administrator", "admins"}),
    ],
)
def test_roles_are_read_in_lower_case(headers: dict[bytes, bytes], roles: set[str]) -> None:
    named = {b"client-id": UUID.encode(), b"x-project-id": b"acme"}
    callers = identity.Callers(ClientIds())
    for _ in range(2):  # the second time they are remembered
        assert callers.read(named | headers).roles == roles


def test_callers_that_differ_in_one_header_are_told_apart() -> None:
    named = {b"client-id": UUID.encode(), b"x-project-id": b"acme", b"x-roles": b"member"}
    others = [
        named | {b"client-id": UUID.replace("3", "4").encode()},
        named | {b"x-project-id": b"other"},
        named | {b"x-roles": b"admin"},
        named | {b"x-project-id": b"a" * 1000},  # too long to be remembered
    ]
    callers = identity.Callers(ClientIds())
    for _ in range(2):
        assert len({callers.read(headers) for headers in (named, *others)}) == 5
