"""The conformance suite of the control plane: each promise of `sukkal.stores.contract.Documents`."""

import asyncio

import pytest

from sukkal.stores.contract import Document, Documents, Shelf

from .samples import NOW

SHELF = Shelf("queue", "acme")
NEIGHBOURS = [
    Shelf("queue", "umbrella"),
    Shelf("topic", "acme"),
    Shelf("queue", ""),
    Shelf("queu", "eacme"),
    Shelf("acme", "queue"),
    Shelf("queue", "Acme"),
    Shelf("queue", "acme "),
    Shelf("queue", "caf\u00e9"),
    Shelf("queue", "cafe\u0301"),
    Shelf("queue", "\U0001f600" * 256),
    Shelf("queue", "%"),
    Shelf("queue", "a'b"),
    Shelf("queue", "a:b"),
    Shelf("queue:a", "b"),
]


async def put(documents: Documents, name: str, value: bytes = b"{}", *, expires: float | None = None) -> int:
    """Store whatever is there already; the version is then never None."""
    version = await documents.put(SHELF, name, value, expect=None, now=NOW, expires=expires)
    assert version is not None
    return version


async def names(documents: Documents, *, after: str = "", limit: int = 1000, now: float = NOW) -> list[str]:
    return [found.name for found in await documents.scan(SHELF, after=after, limit=limit, now=now)]


async def test_shelf_that_holds_nothing_answers_as_empty(documents: Documents) -> None:
    assert await documents.get(SHELF, "a", now=NOW) is None
    assert await documents.delete(SHELF, "a") is False
    assert await documents.scan(SHELF, after="", limit=10, now=NOW) == []
    assert await documents.count(SHELF, now=NOW) == 0


async def test_record_comes_back_with_its_version(documents: Documents) -> None:
    version = await put(documents, "a", b'{"k": 1}')
    assert version > 0
    expected = Document(name="a", value=b'{"k": 1}', version=version)
    assert await documents.get(SHELF, "a", now=NOW) == expected
    assert await documents.scan(SHELF, after="", limit=10, now=NOW) == [expected]
    assert await documents.count(SHELF, now=NOW) == 1


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param(b"x" * 1_000_000, id="large"),
    ],
)
async def test_value_comes_back_byte_for_byte(documents: Documents, value: bytes) -> None:
    await put(documents, "a", value)
    found = await documents.get(SHELF, "a", now=NOW)
    assert found is not None
    assert found.value == value


# Versions


async def test_version_grows_with_each_put(documents: Documents) -> None:
    versions = [await put(documents, "a", b"%d" % number) for number in range(5)]
    assert versions == sorted(set(versions))
    found = await documents.get(SHELF, "a", now=NOW)
    assert found == Document(name="a", value=b"4", version=versions[-1])


async def test_version_grows_also_over_a_deletion(documents: Documents) -> None:
    """Else who still holds the old version would replace a record it has never seen."""
    before = await put(documents, "a")
    await documents.delete(SHELF, "a")
    after = await put(documents, "a")
    assert after > before
    assert await documents.put(SHELF, "a", b"late", expect=before, now=NOW) is None


async def test_expecting_absence_creates_a_record(documents: Documents) -> None:
    version = await documents.put(SHELF, "a", b"1", expect=0, now=NOW)
    assert version is not None
    assert await documents.get(SHELF, "a", now=NOW) == Document(name="a", value=b"1", version=version)


async def test_expecting_absence_leaves_a_record_that_is_there(documents: Documents) -> None:
    version = await put(documents, "a", b"1")
    assert await documents.put(SHELF, "a", b"2", expect=0, now=NOW) is None
    assert await documents.get(SHELF, "a", now=NOW) == Document(name="a", value=b"1", version=version)


async def test_expected_version_is_replaced(documents: Documents) -> None:
    first = await put(documents, "a", b"1")
    second = await documents.put(SHELF, "a", b"2", expect=first, now=NOW)
    assert second is not None
    assert second > first
    assert await documents.get(SHELF, "a", now=NOW) == Document(name="a", value=b"2", version=second)


async def test_outrun_writer_changes_nothing(documents: Documents) -> None:
    first = await put(documents, "a", b"1")
    second = await put(documents, "a", b"2")
    assert await documents.put(SHELF, "a", b"late", expect=first, now=NOW) is None
    assert await documents.put(SHELF, "a", b"early", expect=second + 1, now=NOW) is None
    assert await documents.get(SHELF, "a", now=NOW) == Document(name="a", value=b"2", version=second)


async def test_expecting_a_version_of_an_absent_record_changes_nothing(documents: Documents) -> None:
    assert await documents.put(SHELF, "a", b"1", expect=1, now=NOW) is None
    assert await documents.get(SHELF, "a", now=NOW) is None
    version = await put(documents, "a")
    await documents.delete(SHELF, "a")
    assert await documents.put(SHELF, "a", b"1", expect=version, now=NOW) is None
    assert await documents.get(SHELF, "a", now=NOW) is None


async def test_expecting_nothing_in_particular_replaces_or_creates(documents: Documents) -> None:
    assert await documents.put(SHELF, "a", b"1", expect=None, now=NOW) is not None
    assert await documents.put(SHELF, "a", b"2", expect=None, now=NOW) is not None
    found = await documents.get(SHELF, "a", now=NOW)
    assert found is not None
    assert found.value == b"2"


async def test_one_of_many_concurrent_creators_succeeds(documents: Documents) -> None:
    answers = await asyncio.gather(
        *(documents.put(SHELF, "a", b"%d" % number, expect=0, now=NOW) for number in range(20))
    )
    won = [number for number, version in enumerate(answers) if version is not None]
    assert len(won) == 1
    found = await documents.get(SHELF, "a", now=NOW)
    assert found is not None
    assert found.value == b"%d" % won[0]


async def test_one_of_many_concurrent_writers_replaces_a_version(documents: Documents) -> None:
    version = await put(documents, "a")
    answers = await asyncio.gather(
        *(documents.put(SHELF, "a", b"%d" % number, expect=version, now=NOW) for number in range(20))
    )
    assert len([answer for answer in answers if answer is not None]) == 1


# Deletion


async def test_deleted_record_is_gone(documents: Documents) -> None:
    await put(documents, "a")
    await put(documents, "b")
    assert await documents.delete(SHELF, "a") is True
    assert await documents.get(SHELF, "a", now=NOW) is None
    assert await names(documents) == ["b"]
    assert await documents.count(SHELF, now=NOW) == 1
    assert await documents.delete(SHELF, "a") is False


# Expiry


async def test_record_is_absent_from_its_expiry_on(documents: Documents) -> None:
    await put(documents, "lasting")
    await put(documents, "passing", expires=NOW + 60)
    assert await documents.get(SHELF, "passing", now=NOW + 59.5) is not None
    assert await names(documents, now=NOW + 59.5) == ["lasting", "passing"]
    assert await documents.count(SHELF, now=NOW + 59.5) == 2

    assert await documents.get(SHELF, "passing", now=NOW + 60) is None
    assert await names(documents, now=NOW + 60) == ["lasting"]
    assert await documents.count(SHELF, now=NOW + 60) == 1


async def test_expired_record_counts_as_absent_for_a_writer(documents: Documents) -> None:
    version = await put(documents, "a", expires=NOW + 60)
    assert await documents.put(SHELF, "a", b"late", expect=version, now=NOW + 60) is None
    created = await documents.put(SHELF, "a", b"new", expect=0, now=NOW + 60)
    assert created is not None
    assert created > version
    assert await documents.get(SHELF, "a", now=NOW + 60) == Document(name="a", value=b"new", version=created)


async def test_put_replaces_the_expiry_too(documents: Documents) -> None:
    await put(documents, "a", expires=NOW + 60)
    await put(documents, "a", expires=NOW + 90)
    assert await documents.get(SHELF, "a", now=NOW + 89.5) is not None
    assert await documents.get(SHELF, "a", now=NOW + 90) is None


async def test_put_without_expiry_makes_a_record_last(documents: Documents) -> None:
    await put(documents, "a", expires=NOW + 60)
    await put(documents, "a")
    assert await documents.get(SHELF, "a", now=NOW + 1_000_000) is not None


async def test_refused_put_leaves_the_expiry(documents: Documents) -> None:
    await put(documents, "a", expires=NOW + 60)
    assert await documents.put(SHELF, "a", b"", expect=0, now=NOW, expires=NOW + 600) is None
    assert await documents.get(SHELF, "a", now=NOW + 60) is None


async def test_record_is_removed_by_its_version_when_it_is_replaced_by_one_that_is_over(
    documents: Documents,
) -> None:
    first = await put(documents, "a", expires=NOW + 60)
    second = await put(documents, "a", expires=NOW + 60)
    for version, removed in ((first, False), (second, True)):
        answer = await documents.put(SHELF, "a", b"", expect=version, now=NOW, expires=0.0)
        assert (answer is not None) == removed
        assert (await documents.get(SHELF, "a", now=NOW) is None) == removed
    third = await documents.put(SHELF, "a", b"{}", expect=0, now=NOW)
    assert third not in (None, first, second)
    assert await documents.put(SHELF, "a", b"", expect=second, now=NOW, expires=0.0) is None
    assert await names(documents) == ["a"]


async def test_record_that_expires_at_once_is_absent(documents: Documents) -> None:
    await put(documents, "a", expires=NOW)
    assert await documents.get(SHELF, "a", now=NOW) is None
    assert await documents.count(SHELF, now=NOW) == 0


# Scans


async def test_scan_is_in_bytewise_order_of_the_names(documents: Documents) -> None:
    odd = [
        "a",
        "B",
        "b",
        "A",
        "_",
        "-",
        ".",
        "0",
        "10",
        "9",
        "a.",
        "aa",
        "ab",
        "a-",
        "z",
        "\u00e9",
        "e\u0301",
    ]
    odd += ["\u00df", "\uff5a", "\U0001f600", "\ue000", "~", " ", "a b", "https://x/?q=1&r=%20"]
    for name in odd:
        await put(documents, name)
    assert await names(documents) == sorted(odd, key=str.encode)


async def test_scan_follows_from_name_to_name(documents: Documents) -> None:
    every = sorted((f"n{number}" for number in range(57)), key=str.encode)
    for name in reversed(every):
        await put(documents, name)
    met: list[str] = []
    while listed := await names(documents, after=met[-1] if met else "", limit=10):
        assert len(listed) <= 10
        met += listed
    assert met == every


async def test_scan_starts_behind_a_name_that_need_not_exist(documents: Documents) -> None:
    for name in ("a", "c", "e"):
        await put(documents, name)
    assert await names(documents, after="a") == ["c", "e"]
    assert await names(documents, after="b") == ["c", "e"]
    assert await names(documents, after="A") == ["a", "c", "e"]
    assert await names(documents, after="a\u00e9") == ["c", "e"]
    assert await names(documents, after="e") == []


async def test_scan_is_full_although_expired_records_lie_between(documents: Documents) -> None:
    for number in range(40):
        await put(documents, f"n{number:02}", expires=None if number % 10 == 0 else NOW + 60)
    assert await names(documents, limit=3, now=NOW + 60) == ["n00", "n10", "n20"]


async def test_scan_shows_values_and_versions(documents: Documents) -> None:
    first = await put(documents, "a", b"1")
    second = await put(documents, "b", b"2")
    assert await documents.scan(SHELF, after="", limit=10, now=NOW) == [
        Document(name="a", value=b"1", version=first),
        Document(name="b", value=b"2", version=second),
    ]


async def test_count_is_that_of_a_full_scan(documents: Documents) -> None:
    for number in range(300):
        await put(documents, f"n{number}")
    for number in range(0, 300, 3):
        await documents.delete(SHELF, f"n{number}")
    assert await documents.count(SHELF, now=NOW) == len(await names(documents)) == 200


# Shelves


async def test_equal_names_on_different_shelves_are_different_records(documents: Documents) -> None:
    await put(documents, "a", b"mine")
    for number, shelf in enumerate(NEIGHBOURS):
        assert await documents.get(shelf, "a", now=NOW) is None
        assert await documents.count(shelf, now=NOW) == 0
        assert await documents.put(shelf, "a", b"%d" % number, expect=0, now=NOW) is not None
    for number, shelf in enumerate(NEIGHBOURS):
        assert [(d.name, d.value) for d in await documents.scan(shelf, after="", limit=9, now=NOW)] == [
            ("a", b"%d" % number)
        ]
        assert await documents.count(shelf, now=NOW) == 1
        assert await documents.delete(shelf, "a") is True
    found = await documents.get(SHELF, "a", now=NOW)
    assert found is not None
    assert found.value == b"mine"


async def test_scan_of_one_shelf_never_runs_into_the_next(documents: Documents) -> None:
    await put(documents, "a")
    for shelf in NEIGHBOURS:
        await documents.put(shelf, "b", b"", expect=0, now=NOW)
    assert await names(documents) == ["a"]
