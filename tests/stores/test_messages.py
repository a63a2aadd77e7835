"""The conformance suite of the data plane: each promise of `sukkal.stores.contract.Messages`."""

import asyncio
from itertools import pairwise

import pytest
from msgspec.structs import replace

from sukkal.model import ANYONE, UNCLAIMED, Edge, Holder, Lease, Message, QueueKey, Stats, View
from sukkal.stores.contract import Backend, Messages
from sukkal.tally import ByProject

from .samples import ALL, NOW, QUEUE, ids, lease, message, numbered, walk

PLAIN = View()
OTHER_QUEUE = QueueKey("acme", "invoices")
OTHER_PROJECT = QueueKey("umbrella", "orders")


# An empty queue


async def test_queue_that_holds_nothing_answers_as_empty(messages: Messages) -> None:
    assert await messages.page(QUEUE, view=ALL, after=None, limit=10, now=NOW) == []
    assert await messages.fetch(QUEUE, ["m1"], now=NOW) == []
    assert await messages.claim(QUEUE, lease("c1"), limit=10, now=NOW) == []
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert await messages.renew(QUEUE, lease("c1"), now=NOW) is False
    assert await messages.release(QUEUE, "c1", now=NOW) is False
    assert await messages.delete(QUEUE, ["m1"], holder=ANYONE, now=NOW) == []
    assert await messages.pop(QUEUE, limit=10, now=NOW) == []
    assert await messages.stats(QUEUE, now=NOW) == Stats()
    assert await messages.next_due(QUEUE, now=NOW) is None
    await messages.end_delays(QUEUE)
    await messages.purge(QUEUE)
    assert await messages.volume(now=NOW) == Stats()
    assert await messages.sweep(now=NOW) == 0


async def test_store_answers_a_ping(backend: Backend) -> None:
    await backend.ping()


# Appending


async def test_message_is_kept_as_it_was_appended(messages: Messages) -> None:
    posted = message("m1", body=b"[1, 2]", ttl=120, delay=5, client="c-é", claim_count=3)
    await messages.append(QUEUE, [posted])
    [kept] = await messages.fetch(QUEUE, ["m1"], now=NOW)
    assert replace(kept, marker="") == posted


async def test_times_between_whole_seconds_are_kept(messages: Messages) -> None:
    posted = message("m1", at=NOW + 0.123456)
    await messages.append(QUEUE, [posted])
    [kept] = await messages.fetch(QUEUE, ["m1"], now=NOW + 1)
    assert (kept.created, kept.visible, kept.expires) == (posted.created, posted.visible, posted.expires)


async def test_claim_and_marker_of_what_is_appended_are_ignored(messages: Messages) -> None:
    await messages.append(QUEUE, [replace(message("m1"), claim="c1", marker="elsewhere")])
    [kept] = await messages.fetch(QUEUE, ["m1"], now=NOW)
    assert kept.claim is None
    assert kept.marker != "elsewhere"
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert ids(await messages.claim(QUEUE, lease("c2"), limit=10, now=NOW)) == ["m1"]


async def test_empty_batch_appends_nothing(messages: Messages) -> None:
    await messages.append(QUEUE, [])
    assert await messages.stats(QUEUE, now=NOW) == Stats()


async def test_repeated_append_stores_one_copy(messages: Messages) -> None:
    batch = numbered(3)
    await messages.append(QUEUE, batch)
    await messages.append(QUEUE, batch)
    assert ids(await walk(messages)) == ids(batch)
    assert await messages.stats(QUEUE, now=NOW) == Stats(
        free=3, oldest=Edge(id="m00000", created=NOW), newest=Edge(id="m00002", created=NOW)
    )
    assert (await messages.volume(now=NOW)).total == 3


async def test_repeated_append_leaves_the_message_as_it_is(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    before = await walk(messages)
    await messages.append(QUEUE, [message("m00000", body=b"2", ttl=60, delay=9, client="x", claim_count=7)])
    assert await walk(messages) == before


async def test_repeated_append_leaves_the_claim_on_the_message(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    held = await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    await messages.append(QUEUE, numbered(2))
    assert await messages.held(QUEUE, "c1", now=NOW) == (lease("c1"), held)
    assert ids(await messages.claim(QUEUE, lease("c2"), limit=10, now=NOW)) == ["m00001"]


async def test_repeated_append_adds_what_is_new_in_the_batch(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    await messages.append(QUEUE, [message("new-1"), *numbered(3), message("new-2")])
    assert ids(await walk(messages)) == ["m00000", "m00001", "m00002", "new-1", "new-2"]


async def test_id_twice_in_one_batch_is_stored_once_as_first_given(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", body=b"1"), message("m2"), message("m1", body=b"2")])
    listed = await walk(messages)
    assert ids(listed) == ["m1", "m2"]
    assert listed[0].body == b"1"
    assert (await messages.stats(QUEUE, now=NOW)).total == 2


async def test_same_id_in_two_queues_is_two_messages(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", body=b"1")])
    await messages.append(OTHER_QUEUE, [message("m1", body=b"2")])
    assert [kept.body for kept in await messages.fetch(QUEUE, ["m1"], now=NOW)] == [b"1"]
    assert [kept.body for kept in await messages.fetch(OTHER_QUEUE, ["m1"], now=NOW)] == [b"2"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param("\u0000 \u00e9 e\u0301 \U0001f600".encode(), id="unicode"),
        pytest.param(b"12345678901234567890.0", id="long number"),
    ],
)
async def test_body_comes_back_byte_for_byte(messages: Messages, body: bytes) -> None:
    await messages.append(QUEUE, [message("m1", body=body)])
    assert [shown.body for shown in await walk(messages)] == [body]
    assert [shown.body for shown in await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)] == [body]


async def test_large_bodies_come_back_whole(messages: Messages) -> None:
    bodies = [bytes([number]) * 262_144 for number in range(20)]
    await messages.append(QUEUE, [message(f"m{n:02}", body=body) for n, body in enumerate(bodies)])
    assert [shown.body for shown in await walk(messages)] == bodies
    claimed = await messages.claim(QUEUE, lease("c1"), limit=20, now=NOW)
    assert [shown.body for shown in claimed] == bodies


async def test_concurrent_appends_all_arrive_with_each_batch_in_its_order(messages: Messages) -> None:
    batches = [[message(f"p{producer}-{n}") for n in range(10)] for producer in range(20)]
    await asyncio.gather(*(messages.append(QUEUE, batch) for batch in batches))
    met = ids(await walk(messages))
    assert len(met) == 200
    for batch in batches:
        assert [id for id in met if id in ids(batch)] == ids(batch)


async def test_concurrent_repeats_of_one_append_store_one_copy(messages: Messages) -> None:
    batch = numbered(5)
    await asyncio.gather(*(messages.append(QUEUE, batch) for _ in range(10)))
    assert ids(await walk(messages)) == ids(batch)


# Order


async def test_messages_keep_the_order_of_their_appends(messages: Messages) -> None:
    posted = [message(id) for id in ("z", "a", "M", "0", "-", "_")]
    for each in posted[:3]:
        await messages.append(QUEUE, [each])
    await messages.append(QUEUE, posted[3:])
    assert ids(await walk(messages)) == ids(posted)
    assert ids(await messages.claim(QUEUE, lease("c1"), limit=4, now=NOW)) == ids(posted[:4])
    assert ids(await messages.pop(QUEUE, limit=4, now=NOW)) == ids(posted[4:])


async def test_order_is_that_of_appends_and_not_of_creation_times(messages: Messages) -> None:
    await messages.append(QUEUE, [message("late", at=NOW + 5)])
    await messages.append(QUEUE, [message("early", at=NOW)])
    assert ids(await walk(messages, now=NOW + 5)) == ["late", "early"]
    assert ids(await messages.claim(QUEUE, lease("c1", since=NOW + 5), limit=2, now=NOW + 5)) == [
        "late",
        "early",
    ]


# Pages


async def test_page_shows_no_more_than_its_limit(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(5))
    for limit in (1, 3, 5, 9):
        listed = await messages.page(QUEUE, view=PLAIN, after=None, limit=limit, now=NOW)
        assert ids(listed) == ids(numbered(min(limit, 5)))


@pytest.mark.parametrize("limit", [1, 2, 5, 20, 1000])
async def test_following_markers_meets_each_message_once_in_order(messages: Messages, limit: int) -> None:
    await messages.append(QUEUE, numbered(41))
    assert ids(await walk(messages, limit=limit)) == ids(numbered(41))


async def test_every_message_of_a_page_has_a_marker_that_continues_behind_it(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(6))
    for place, shown in enumerate(await walk(messages)):
        assert ids(await walk(messages, after=shown.marker)) == ids(numbered(6))[place + 1 :]


async def test_marker_of_a_fetched_message_is_that_of_the_page(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    listed = await walk(messages)
    assert await messages.fetch(QUEUE, ids(listed), now=NOW) == listed


async def test_page_behind_the_last_message_is_empty_and_later_shows_what_arrives(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    last = (await walk(messages))[-1].marker
    assert await messages.page(QUEUE, view=ALL, after=last, limit=10, now=NOW) == []
    await messages.append(QUEUE, numbered(2, first=3))
    assert ids(await walk(messages, after=last)) == ["m00003", "m00004"]


async def test_marker_stays_good_when_its_message_was_deleted(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(6))
    listed = await walk(messages)
    await messages.delete(QUEUE, ["m00002", "m00003"], holder=ANYONE, now=NOW)
    assert ids(await walk(messages, after=listed[2].marker)) == ["m00004", "m00005"]
    assert ids(await walk(messages, after=listed[3].marker)) == ["m00004", "m00005"]


async def test_marker_stays_good_when_every_message_up_to_it_was_deleted(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    listed = await walk(messages)
    await messages.delete(QUEUE, ids(listed), holder=ANYONE, now=NOW)
    while await messages.sweep(now=NOW):
        pass
    await messages.append(QUEUE, numbered(2, first=4))
    for shown in listed:
        assert ids(await walk(messages, after=shown.marker)) == ["m00004", "m00005"]


async def test_marker_stays_good_when_its_message_expired_and_was_swept(messages: Messages) -> None:
    await messages.append(QUEUE, [message("short", ttl=60), message("long")])
    short, _ = await walk(messages)
    assert ids(await walk(messages, after=short.marker, now=NOW + 60)) == ["long"]
    while await messages.sweep(now=NOW + 60):
        pass
    assert ids(await walk(messages, after=short.marker, now=NOW + 60)) == ["long"]


async def test_marker_stays_good_when_its_message_was_popped(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    listed = await walk(messages)
    await messages.pop(QUEUE, limit=2, now=NOW)
    assert ids(await walk(messages, after=listed[0].marker)) == ["m00002", "m00003"]


async def test_marker_stays_good_when_its_message_is_claimed(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    listed = await walk(messages)
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    assert ids(await walk(messages, view=PLAIN, after=listed[0].marker)) == ["m00002", "m00003"]
    assert ids(await walk(messages, view=ALL, after=listed[0].marker)) == ["m00001", "m00002", "m00003"]


async def test_marker_stays_good_when_the_queue_was_purged_since(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(5))
    listed = await walk(messages)
    await messages.purge(QUEUE)
    assert await walk(messages, after=listed[-1].marker) == []
    await messages.append(QUEUE, numbered(3, first=5))
    for shown in listed:
        assert ids(await walk(messages, after=shown.marker)) == ["m00005", "m00006", "m00007"]


async def test_marker_stays_good_when_the_queue_was_purged_and_swept(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(5))
    last = (await walk(messages))[-1].marker
    await messages.purge(QUEUE)
    while await messages.sweep(now=NOW):
        pass
    await messages.append(QUEUE, numbered(2, first=5))
    assert ids(await walk(messages, after=last)) == ["m00005", "m00006"]


async def test_claiming_and_releasing_does_not_change_markers(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    before = [shown.marker for shown in await walk(messages)]
    await messages.claim(QUEUE, lease("c1"), limit=3, now=NOW)
    assert [shown.marker for shown in await walk(messages)] == before
    await messages.release(QUEUE, "c1", now=NOW)
    assert [shown.marker for shown in await walk(messages)] == before


async def test_walk_meets_what_existed_throughout_while_others_come_and_go(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(60))
    met: list[str] = []
    after: str | None = None
    arriving = 60
    while listed := await messages.page(QUEUE, view=ALL, after=after, limit=5, now=NOW):
        met += ids(listed)
        after = listed[-1].marker
        # The message the marker came from goes, and so does one further ahead.
        ahead = f"m{int(listed[-1].id[1:]) + 3:05}"
        await messages.delete(QUEUE, [listed[-1].id, ahead], holder=ANYONE, now=NOW)
        if arriving < 64:
            await messages.append(QUEUE, numbered(1, first=arriving))
            arriving += 1
    assert met == sorted(set(met))
    survivors = ids(await walk(messages))
    assert set(survivors) <= set(met)


@pytest.mark.parametrize(
    "garbage",
    [
        "sfhlsfdjh2048",
        "",
        " ",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x10",
        " 1",
        "1 ",
        "1_0",
        "\u0661\u0662",
        "\u00b2",
        "\uff11",
        "9" * 40,
        "9" * 5000,
        "1; DROP TABLE messages",
        "%",
        "*",
        "\u00e9\U0001f600",
        "null",
        "None",
    ],
)
async def test_marker_the_store_never_made_yields_an_empty_page(messages: Messages, garbage: str) -> None:
    await messages.append(QUEUE, numbered(12))
    assert await messages.page(QUEUE, view=ALL, after=garbage, limit=10, now=NOW) == []


async def test_listing_hides_claimed_messages_unless_asked(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    assert ids(await walk(messages, view=PLAIN)) == ["m00002", "m00003"]
    shown = await walk(messages, view=View(include_claimed=True))
    assert [(each.id, each.claim) for each in shown] == [
        ("m00000", "c1"),
        ("m00001", "c1"),
        ("m00002", None),
        ("m00003", None),
    ]


async def test_listing_with_claimed_messages_has_the_same_ids_before_and_after_a_claim(
    messages: Messages,
) -> None:
    await messages.append(QUEUE, numbered(12))
    before = ids(await walk(messages, view=View(include_claimed=True)))
    await messages.claim(QUEUE, lease("c1"), limit=10, now=NOW)
    assert ids(await walk(messages, view=View(include_claimed=True))) == before


async def test_listing_hides_delayed_messages_unless_asked(messages: Messages) -> None:
    await messages.append(QUEUE, [message("now"), message("later", delay=10), message("too")])
    assert ids(await walk(messages, view=PLAIN)) == ["now", "too"]
    assert ids(await walk(messages, view=View(include_claimed=True))) == ["now", "too"]
    assert ids(await walk(messages, view=View(include_delayed=True))) == ["now", "later", "too"]


async def test_delayed_and_claimed_messages_are_shown_by_their_own_switch(messages: Messages) -> None:
    await messages.append(QUEUE, [message("held"), message("later", delay=10), message("free")])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    assert ids(await walk(messages, view=PLAIN)) == ["free"]
    assert ids(await walk(messages, view=View(include_claimed=True))) == ["held", "free"]
    assert ids(await walk(messages, view=View(include_delayed=True))) == ["later", "free"]
    assert ids(await walk(messages, view=ALL)) == ["held", "later", "free"]


async def test_listing_leaves_out_what_the_named_client_posted(messages: Messages) -> None:
    posters = ["ann", "bob", "ann", "", "Ann"]
    await messages.append(QUEUE, [message(f"m{n}", client=poster) for n, poster in enumerate(posters)])
    assert ids(await walk(messages, view=View(without_client="ann"))) == ["m1", "m3", "m4"]
    assert ids(await walk(messages, view=View(without_client="bob"))) == ["m0", "m2", "m3", "m4"]
    assert ids(await walk(messages, view=View(without_client=""))) == ["m0", "m1", "m2", "m4"]
    assert ids(await walk(messages, view=View(without_client="nobody"))) == ["m0", "m1", "m2", "m3", "m4"]
    assert ids(await walk(messages, view=PLAIN)) == ["m0", "m1", "m2", "m3", "m4"]


@pytest.mark.parametrize("limit", [1, 3, 10])
async def test_page_is_full_although_the_view_skips_many_messages(messages: Messages, limit: int) -> None:
    await messages.append(
        QUEUE, [message(f"m{n:03}", client="me" if n % 10 else "other") for n in range(200)]
    )
    expected = [f"m{n:03}" for n in range(0, 200, 10)]
    others = View(without_client="me")
    first = await messages.page(QUEUE, view=others, after=None, limit=limit, now=NOW)
    assert ids(first) == expected[:limit]
    assert ids(await walk(messages, view=others, limit=limit)) == expected


@pytest.mark.parametrize("now", [NOW, NOW + 60])
async def test_page_reaches_what_it_shows_past_thousands_that_it_does_not(
    messages: Messages, now: float
) -> None:
    """Before what is shown lie messages of the caller's own, held and delayed ones, some of them expired."""
    await messages.append(QUEUE, [message("first", client="other")])
    for start in range(0, 5000, 500):
        await messages.append(
            QUEUE,
            [
                message(f"m{n}", client="me" if n % 3 else "other", ttl=3600 if n % 2 else 60)
                for n in range(start, start + 500)
            ],
        )
    await messages.claim(QUEUE, lease("c1", ttl=600), limit=5001, now=NOW)
    await messages.append(QUEUE, [message(f"own{n}", client="me") for n in range(2500)])
    await messages.append(QUEUE, [message(f"later{n}", client="other", delay=600) for n in range(2500)])
    await messages.append(QUEUE, [message("last", client="other"), message("own-last", client="me")])
    others = View(without_client="me")
    shown = await messages.page(QUEUE, view=others, after=None, limit=10, now=now)
    assert ids(shown) == ["last"]
    everything = await walk(
        messages, view=View(include_claimed=True, without_client="me"), limit=500, now=now
    )
    assert len(everything) == 1 + 1667 + 1
    assert ids(everything)[:2] == ["first", "m0"]


async def test_client_plays_no_part_outside_of_listing(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", client="me"), message("m2", client="other")])
    assert ids(await messages.fetch(QUEUE, ["m1", "m2"], now=NOW)) == ["m1", "m2"]
    assert ids(await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)) == ["m1", "m2"]


# Fetching


async def test_fetch_answers_in_the_order_asked_for_and_each_message_once(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    asked = ["m00003", "m00001", "unknown", "m00003", "m00000"]
    assert ids(await messages.fetch(QUEUE, asked, now=NOW)) == ["m00003", "m00001", "m00000"]


async def test_fetch_of_nothing_is_nothing(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    assert await messages.fetch(QUEUE, [], now=NOW) == []


async def test_fetch_finds_held_and_delayed_messages(messages: Messages) -> None:
    await messages.append(QUEUE, [message("held"), message("later", delay=10)])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    held, later = await messages.fetch(QUEUE, ["held", "later"], now=NOW)
    assert (held.claim, held.claim_count) == ("c1", 1)
    assert (later.claim, later.visible) == (None, NOW + 10)


async def test_fetch_takes_any_text_for_an_id(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    odd = ["", " ", "'", '"', "%", "*", "\u00e9", "\U0001f600", "x" * 5000, "m00000 ", "M00000"]
    assert await messages.fetch(QUEUE, odd, now=NOW) == []
    assert await messages.delete(QUEUE, odd, holder=ANYONE, now=NOW) == []


async def test_message_is_found_as_soon_as_append_returns(messages: Messages) -> None:
    for number in range(20):
        id = f"m{number}"
        await messages.append(QUEUE, [message(id)])
        assert ids(await messages.fetch(QUEUE, [id], now=NOW)) == [id]
        assert ids(await messages.claim(QUEUE, lease(f"c{number}"), limit=10, now=NOW)) == [id]


# Lifetime


async def test_message_is_gone_from_its_expiry_on_without_a_sweep(messages: Messages) -> None:
    await messages.append(QUEUE, [message("short", ttl=60), message("long", ttl=120)])
    just_before, due = NOW + 59.5, NOW + 60
    assert ids(await walk(messages, now=just_before)) == ["short", "long"]
    assert ids(await messages.fetch(QUEUE, ["short", "long"], now=just_before)) == ["short", "long"]
    assert (await messages.stats(QUEUE, now=just_before)).total == 2

    assert ids(await walk(messages, now=due)) == ["long"]
    assert ids(await messages.fetch(QUEUE, ["short", "long"], now=due)) == ["long"]
    assert await messages.delete(QUEUE, ["short"], holder=ANYONE, now=due) == []
    assert await messages.stats(QUEUE, now=due) == Stats(
        free=1, oldest=Edge(id="long", created=NOW), newest=Edge(id="long", created=NOW)
    )
    assert ids(await messages.claim(QUEUE, lease("c1", since=due), limit=1, now=due)) == ["long"]


async def test_expired_message_is_not_popped(messages: Messages) -> None:
    await messages.append(QUEUE, [message("short", ttl=60), message("long", ttl=120)])
    assert ids(await messages.pop(QUEUE, limit=1, now=NOW + 60)) == ["long"]


async def test_page_is_full_although_expired_messages_lie_before(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(50, ttl=60), *numbered(5, first=50)])
    listed = await messages.page(QUEUE, view=PLAIN, after=None, limit=3, now=NOW + 60)
    assert ids(listed) == ["m00050", "m00051", "m00052"]


async def test_claim_reaches_past_expired_messages(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(50, ttl=60), *numbered(5, first=50)])
    taken = await messages.claim(QUEUE, lease("c1", since=NOW + 60), limit=3, now=NOW + 60)
    assert ids(taken) == ["m00050", "m00051", "m00052"]


async def test_message_that_expires_before_its_delay_ends_is_never_handed_out(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", ttl=60, delay=90)])
    for now in (NOW, NOW + 60, NOW + 90, NOW + 91):
        assert await messages.claim(QUEUE, lease(f"c{now}", since=now), limit=1, now=now) == []
        assert await messages.pop(QUEUE, limit=1, now=now) == []


async def test_message_that_expired_after_its_lease_lapsed_does_not_come_back(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", ttl=90)])
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    assert ids(await walk(messages, view=PLAIN, now=NOW + 89.5)) == ["m1"]
    assert await messages.claim(QUEUE, lease("c2", since=NOW + 90), limit=1, now=NOW + 90) == []
    assert await messages.stats(QUEUE, now=NOW + 90) == Stats()


# Delays


async def test_delayed_message_is_handed_out_from_its_due_time_on(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", delay=10)])
    assert await messages.claim(QUEUE, lease("c1", since=NOW + 9.5), limit=1, now=NOW + 9.5) == []
    assert await messages.pop(QUEUE, limit=1, now=NOW + 9.5) == []
    assert ids(await walk(messages, view=PLAIN, now=NOW + 10)) == ["m1"]
    assert ids(await messages.claim(QUEUE, lease("c2", since=NOW + 10), limit=1, now=NOW + 10)) == ["m1"]


async def test_delayed_message_is_popped_from_its_due_time_on(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", delay=10)])
    assert ids(await messages.pop(QUEUE, limit=1, now=NOW + 10)) == ["m1"]


async def test_delayed_message_that_came_due_is_handed_out_at_its_place(messages: Messages) -> None:
    await messages.append(QUEUE, [message("first", delay=10), message("second"), message("third", delay=5)])
    now = NOW + 10
    assert ids(await messages.claim(QUEUE, lease("c1", since=now), limit=2, now=now)) == ["first", "second"]
    assert ids(await messages.claim(QUEUE, lease("c2", since=now), limit=2, now=now)) == ["third"]


async def test_claim_reaches_past_delayed_messages(messages: Messages) -> None:
    await messages.append(QUEUE, [message(f"d{n}", delay=10) for n in range(50)])
    await messages.append(QUEUE, numbered(3))
    assert ids(await messages.claim(QUEUE, lease("c1"), limit=10, now=NOW)) == ids(numbered(3))


async def test_delayed_message_counts_as_free(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", delay=10), message("m2")])
    assert (await messages.stats(QUEUE, now=NOW)).free == 2


async def test_delayed_message_can_be_deleted(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", delay=10)])
    assert await messages.delete(QUEUE, ["m1"], holder=UNCLAIMED, now=NOW) == ["m1"]
    assert await messages.pop(QUEUE, limit=1, now=NOW + 10) == []


async def test_ending_delays_makes_delayed_messages_visible_at_once(messages: Messages) -> None:
    await messages.append(QUEUE, [message("first", delay=10), message("second"), message("third", delay=900)])
    await messages.end_delays(QUEUE)
    assert ids(await walk(messages, view=PLAIN)) == ["first", "second", "third"]
    assert [each.visible for each in await walk(messages)] == [NOW, NOW, NOW]
    stats = await messages.stats(QUEUE, now=NOW)
    assert stats.free == 3
    assert stats.newest == Edge(id="third", created=NOW)
    assert ids(await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)) == ["first", "second"]
    assert ids(await messages.pop(QUEUE, limit=2, now=NOW)) == ["third"]


async def test_ending_delays_changes_nothing_else(messages: Messages) -> None:
    posted = message("later", body=b"1", ttl=120, delay=10, client="ann", claim_count=2)
    await messages.append(QUEUE, [message("held"), posted, message("free")])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    before = await walk(messages)
    await messages.end_delays(QUEUE)
    assert await walk(messages) == [before[0], replace(before[1], visible=NOW), before[2]]
    assert ids((await messages.held(QUEUE, "c1", now=NOW) or (None, []))[1]) == ["held"]


async def test_ending_delays_does_not_hand_out_what_a_lease_holds(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", delay=10)])
    await messages.claim(QUEUE, lease("c1", since=NOW + 10), limit=1, now=NOW + 10)
    await messages.end_delays(QUEUE)
    assert await messages.claim(QUEUE, lease("c2", since=NOW + 10), limit=1, now=NOW + 10) == []
    assert (await messages.stats(QUEUE, now=NOW + 10)).claimed == 1


async def test_ending_delays_leaves_later_messages_and_other_queues_alone(messages: Messages) -> None:
    for queue in (QUEUE, OTHER_QUEUE, OTHER_PROJECT):
        await messages.append(queue, [message("before", delay=10)])
    await messages.end_delays(QUEUE)
    await messages.append(QUEUE, [message("after", delay=10)])
    assert ids(await walk(messages, view=PLAIN)) == ["before"]
    assert await walk(messages, OTHER_QUEUE, view=PLAIN) == []
    assert await walk(messages, OTHER_PROJECT, view=PLAIN) == []


# Claims


async def test_claim_hands_out_the_oldest_up_to_its_limit(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(12))
    first = await messages.claim(QUEUE, lease("c1"), limit=10, now=NOW)
    second = await messages.claim(QUEUE, lease("c2"), limit=10, now=NOW)
    assert ids(first) == ids(numbered(10))
    assert ids(second) == ["m00010", "m00011"]
    assert await messages.claim(QUEUE, lease("c3"), limit=10, now=NOW) == []


async def test_claimed_messages_show_their_claim_and_count(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", claim_count=2)])
    [taken] = await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    assert (taken.claim, taken.claim_count) == ("c1", 3)
    assert await messages.fetch(QUEUE, ["m1"], now=NOW) == [taken]
    assert await walk(messages) == [taken]


async def test_claim_that_finds_nothing_creates_nothing(messages: Messages) -> None:
    assert await messages.claim(QUEUE, lease("c1"), limit=10, now=NOW) == []
    await messages.append(QUEUE, numbered(1))
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert await messages.renew(QUEUE, lease("c1"), now=NOW) is False
    assert await messages.release(QUEUE, "c1", now=NOW) is False


async def test_held_answers_the_lease_and_its_messages_oldest_first(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(5))
    taken = lease("c1", ttl=77, grace=88)
    handed_out = await messages.claim(QUEUE, taken, limit=3, now=NOW)
    assert await messages.held(QUEUE, "c1", now=NOW + 76.5) == (taken, handed_out)


async def test_claiming_again_with_the_same_lease_adds_to_it(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    first = await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    second = await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    assert ids(first) == ["m00000"]
    assert ids(second) == ["m00001"]
    assert await messages.held(QUEUE, "c1", now=NOW) == (lease("c1"), first + second)


async def test_held_is_in_queue_order_also_when_an_older_message_was_added_later(messages: Messages) -> None:
    await messages.append(QUEUE, [message("older", delay=10), message("younger")])
    taken = lease("c1")
    await messages.claim(QUEUE, taken, limit=1, now=NOW)
    await messages.claim(QUEUE, taken, limit=1, now=NOW + 10)
    answer = await messages.held(QUEUE, "c1", now=NOW + 10)
    assert answer is not None
    assert ids(answer[1]) == ["older", "younger"]


async def test_concurrent_claims_never_share_a_message(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(150))
    answers = await asyncio.gather(
        *(messages.claim(QUEUE, lease(f"c{n}"), limit=10, now=NOW) for n in range(20))
    )
    handed_out = [id for answer in answers for id in ids(answer)]
    assert sorted(handed_out) == ids(numbered(150))
    for answer in answers:
        assert ids(answer) == sorted(ids(answer))


async def test_concurrent_claims_and_pops_never_share_a_message(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(100))
    claims = [messages.claim(QUEUE, lease(f"c{n}"), limit=7, now=NOW) for n in range(10)]
    pops = [messages.pop(QUEUE, limit=7, now=NOW) for _ in range(10)]
    mixed = [call for pair in zip(claims, pops, strict=True) for call in pair]
    handed_out = [id for answer in await asyncio.gather(*mixed) for id in ids(answer)]
    assert sorted(handed_out) == ids(numbered(100))


async def test_claims_beside_appends_hand_out_each_message_once(messages: Messages) -> None:
    taken: list[str] = []

    async def produce(producer: int) -> None:
        for number in range(20):
            await messages.append(QUEUE, [message(f"p{producer}-{number:02}")])

    async def consume(consumer: int) -> None:
        for number in range(30):
            answer = await messages.claim(QUEUE, lease(f"c{consumer}-{number}"), limit=3, now=NOW)
            taken.extend(ids(answer))

    await asyncio.gather(*(produce(n) for n in range(4)), *(consume(n) for n in range(4)))
    taken.extend(ids(await messages.claim(QUEUE, lease("rest"), limit=100, now=NOW)))
    assert sorted(taken) == [f"p{producer}-{number:02}" for producer in range(4) for number in range(20)]


@pytest.mark.parametrize(
    ("message_ttl", "ttl", "grace", "since", "afterwards", "expires"),
    [
        (120, 777, 0, 0, 777, 777),
        (120, 777, 23, 0, 800, 800),
        (120, 121, 22, 0, 143, 143),
        (120, 60, 30, 0, 120, 120),
        (60, 60, 60, 1, 120, 121),
        pytest.param(120, 120, 30, 0, 120, 120, id="ends with the lease"),
        pytest.param(120, 120, 30, 0.5, 150, 150.5, id="ends half a second before the lease"),
    ],
)
async def test_message_that_would_expire_under_its_lease_is_extended(
    messages: Messages,
    message_ttl: int,
    ttl: int,
    grace: int,
    since: float,
    afterwards: int,
    expires: float,
) -> None:
    await messages.append(QUEUE, [message("m1", ttl=message_ttl)])
    taken_at = NOW + since
    taken = lease("c1", ttl=ttl, grace=grace, since=taken_at)
    [extended] = await messages.claim(QUEUE, taken, limit=1, now=taken_at)
    assert (extended.ttl, extended.expires) == (afterwards, NOW + expires)
    assert extended.created == NOW
    assert await messages.fetch(QUEUE, ["m1"], now=taken_at) == [extended]

    last_moment = NOW + expires - 0.5
    assert ids(await messages.fetch(QUEUE, ["m1"], now=last_moment)) == ["m1"]
    assert await messages.fetch(QUEUE, ["m1"], now=NOW + expires) == []


async def test_lease_extends_only_those_of_its_messages_that_need_it(messages: Messages) -> None:
    await messages.append(QUEUE, [message("long", ttl=500), message("short", ttl=60)])
    taken = await messages.claim(QUEUE, lease("c1", ttl=100, grace=10), limit=2, now=NOW)
    assert [(each.id, each.ttl) for each in taken] == [("long", 500), ("short", 110)]


async def test_extension_is_kept_when_the_lease_is_released(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", ttl=60)])
    await messages.claim(QUEUE, lease("c1", ttl=100, grace=20), limit=1, now=NOW)
    await messages.release(QUEUE, "c1", now=NOW)
    [kept] = await messages.fetch(QUEUE, ["m1"], now=NOW + 119.5)
    assert (kept.ttl, kept.expires) == (120, NOW + 120)


# Lapse


async def test_lease_is_live_until_its_due_time(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    now = NOW + 59.5
    assert await messages.held(QUEUE, "c1", now=now) is not None
    assert await messages.claim(QUEUE, lease("c2", since=now), limit=1, now=now) == []
    assert await messages.pop(QUEUE, limit=1, now=now) == []


async def test_lapsed_lease_is_unknown(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    due = NOW + 60
    assert await messages.held(QUEUE, "c1", now=due) is None
    assert await messages.renew(QUEUE, lease("c1", since=due), now=due) is False
    assert await messages.release(QUEUE, "c1", now=due) is False
    mine = Holder(claims=frozenset({"c1"}))
    assert await messages.delete(QUEUE, ["m00000"], holder=mine, now=due) == []


async def test_lapsed_claim_is_handed_out_again_at_its_old_place(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(6))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=2, now=NOW)
    await messages.append(QUEUE, numbered(1, first=6))
    due = NOW + 60
    again = await messages.claim(QUEUE, lease("c2", since=due), limit=3, now=due)
    assert [(each.id, each.claim, each.claim_count) for each in again] == [
        ("m00000", "c2", 2),
        ("m00001", "c2", 2),
        ("m00002", "c2", 1),
    ]


async def test_message_of_a_lapsed_lease_is_shown_as_unclaimed(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    due = NOW + 60
    assert [each.claim for each in await messages.fetch(QUEUE, ["m00000"], now=due)] == [None]
    listed = await walk(messages, view=PLAIN, now=due)
    assert [(each.id, each.claim, each.claim_count) for each in listed] == [
        ("m00000", None, 1),
        ("m00001", None, 0),
    ]
    stats = await messages.stats(QUEUE, now=due)
    assert (stats.free, stats.claimed) == (2, 0)


async def test_message_of_a_lapsed_lease_is_popped_without_a_claim(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    popped = await messages.pop(QUEUE, limit=1, now=NOW + 60)
    assert [(each.id, each.claim, each.claim_count) for each in popped] == [("m00000", None, 1)]


async def test_lapsed_claim_does_not_reach_what_was_claimed_anew(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    due = NOW + 60
    await messages.claim(QUEUE, lease("c2", since=due), limit=1, now=due)
    assert await messages.release(QUEUE, "c1", now=due) is False
    old = Holder(claims=frozenset({"c1"}))
    assert await messages.delete(QUEUE, ["m00000"], holder=old, now=due) == []
    assert ids((await messages.held(QUEUE, "c2", now=due) or (None, []))[1]) == ["m00000"]


async def test_only_the_lapsed_of_several_leases_gives_back(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    await messages.claim(QUEUE, lease("short", ttl=60), limit=2, now=NOW)
    await messages.claim(QUEUE, lease("long", ttl=120), limit=2, now=NOW)
    assert ids(await walk(messages, view=PLAIN, now=NOW + 60)) == ["m00000", "m00001"]
    assert ids(await walk(messages, view=PLAIN, now=NOW + 120)) == ids(numbered(4))


# Renewal


async def test_renewed_lease_counts_from_its_new_start(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    renewed = lease("c1", ttl=90, grace=70, since=NOW + 30)
    assert await messages.renew(QUEUE, renewed, now=NOW + 30) is True
    answer = await messages.held(QUEUE, "c1", now=NOW + 119.5)
    assert answer is not None
    assert answer[0] == renewed
    assert ids(answer[1]) == ["m00000"]
    assert ids(await walk(messages, view=PLAIN, now=NOW + 119.5)) == ["m00001"]
    assert await messages.held(QUEUE, "c1", now=NOW + 120) is None


async def test_renewing_can_shorten_a_lease(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1", ttl=600), limit=1, now=NOW)
    assert await messages.renew(QUEUE, lease("c1", ttl=60, since=NOW + 10), now=NOW + 10) is True
    assert await messages.claim(QUEUE, lease("c2", since=NOW + 69.5), limit=1, now=NOW + 69.5) == []
    assert await messages.held(QUEUE, "c1", now=NOW + 70) is None
    assert ids(await messages.claim(QUEUE, lease("c3", since=NOW + 70), limit=1, now=NOW + 70)) == ["m00000"]


async def test_renewing_keeps_claim_counts(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", claim_count=4)])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    await messages.renew(QUEUE, lease("c1", since=NOW + 1), now=NOW + 1)
    [kept] = await messages.fetch(QUEUE, ["m1"], now=NOW + 1)
    assert (kept.claim, kept.claim_count) == ("c1", 5)


async def test_renewing_extends_messages_that_would_expire_under_the_lease(messages: Messages) -> None:
    await messages.append(QUEUE, [message("short", ttl=120), message("long", ttl=1000)])
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=2, now=NOW)
    await messages.renew(QUEUE, lease("c1", ttl=100, grace=15, since=NOW + 50), now=NOW + 50)
    short, long = await messages.fetch(QUEUE, ["short", "long"], now=NOW + 50)
    assert (short.ttl, short.expires, short.created) == (115, NOW + 165, NOW)
    assert (long.ttl, long.expires) == (1000, NOW + 1000)


async def test_renewing_with_less_does_not_shorten_messages(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", ttl=60)])
    await messages.claim(QUEUE, lease("c1", ttl=600, grace=60), limit=1, now=NOW)
    await messages.renew(QUEUE, lease("c1", ttl=60, grace=0, since=NOW + 1), now=NOW + 1)
    [kept] = await messages.fetch(QUEUE, ["m1"], now=NOW + 1)
    assert (kept.ttl, kept.expires) == (660, NOW + 660)


async def test_lease_renewed_again_and_again_holds_on(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", ttl=60)])
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    for step in range(1, 20):
        now = NOW + step * 59
        assert await messages.renew(QUEUE, lease("c1", ttl=60, since=now), now=now) is True
        assert await messages.claim(QUEUE, lease(f"c1-{step}", since=now), limit=1, now=now) == []
    answer = await messages.held(QUEUE, "c1", now=NOW + 19 * 59)
    assert answer is not None
    assert ids(answer[1]) == ["m1"]


async def test_renewing_what_was_never_taken_is_refused(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    assert await messages.renew(QUEUE, lease("never"), now=NOW) is False
    assert await messages.held(QUEUE, "never", now=NOW) is None


# Release


async def test_released_messages_are_handed_out_again_at_their_old_place(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    assert await messages.release(QUEUE, "c1", now=NOW + 1) is True
    again = await messages.claim(QUEUE, lease("c2"), limit=3, now=NOW + 1)
    assert [(each.id, each.claim_count) for each in again] == [("m00000", 2), ("m00001", 2), ("m00002", 1)]


async def test_released_lease_is_unknown(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    await messages.release(QUEUE, "c1", now=NOW)
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert await messages.renew(QUEUE, lease("c1"), now=NOW) is False
    assert await messages.release(QUEUE, "c1", now=NOW) is False
    mine = Holder(claims=frozenset({"c1"}))
    assert await messages.delete(QUEUE, ["m00000"], holder=mine, now=NOW) == []


async def test_release_gives_back_only_what_that_lease_holds(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(4))
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    kept = await messages.claim(QUEUE, lease("c2"), limit=2, now=NOW)
    await messages.release(QUEUE, "c1", now=NOW)
    assert ids(await walk(messages, view=PLAIN)) == ["m00000", "m00001"]
    assert await messages.held(QUEUE, "c2", now=NOW) == (lease("c2"), kept)


async def test_lease_whose_messages_were_all_deleted_is_unknown(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    mine = Holder(claims=frozenset({"c1"}))
    await messages.delete(QUEUE, ["m00000"], holder=mine, now=NOW)
    answer = await messages.held(QUEUE, "c1", now=NOW)
    assert answer is not None
    assert ids(answer[1]) == ["m00001"]
    await messages.delete(QUEUE, ["m00001"], holder=mine, now=NOW)
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert await messages.renew(QUEUE, lease("c1"), now=NOW) is False
    assert await messages.release(QUEUE, "c1", now=NOW) is False


# Deletion


OF_C1 = Holder(claims=frozenset({"c1"}))
OF_C2 = Holder(claims=frozenset({"c2"}))
OF_LAPSED = Holder(claims=frozenset({"lapsed"}))
OF_SEVERAL = Holder(claims=frozenset({"c1", "c2", "lapsed", "never"}))
OF_C1_OR_UNCLAIMED = Holder(claims=frozenset({"c1"}), unclaimed=True)


@pytest.mark.parametrize(
    ("holder", "allowed"),
    [
        pytest.param(ANYONE, ["by c1", "by c2", "delayed", "free", "once held"], id="anyone"),
        pytest.param(UNCLAIMED, ["delayed", "free", "once held"], id="unclaimed"),
        pytest.param(OF_C1, ["by c1"], id="one claim"),
        pytest.param(OF_C2, ["by c2"], id="another claim"),
        pytest.param(OF_LAPSED, [], id="lapsed claim"),
        pytest.param(OF_SEVERAL, ["by c1", "by c2"], id="several claims"),
        pytest.param(OF_C1_OR_UNCLAIMED, ["by c1", "delayed", "free", "once held"], id="claim or unclaimed"),
        pytest.param(Holder(), [], id="nobody"),
    ],
)
async def test_holder_decides_what_is_deleted(messages: Messages, holder: Holder, allowed: list[str]) -> None:
    await messages.append(QUEUE, [message("by c1"), message("by c2"), message("once held")])
    await messages.append(QUEUE, [message("expired", ttl=60), message("delayed", delay=300), message("free")])
    every = ["by c1", "by c2", "once held", "expired", "delayed", "free"]
    await messages.claim(QUEUE, lease("c1", ttl=600), limit=1, now=NOW)
    await messages.claim(QUEUE, lease("c2", ttl=600), limit=1, now=NOW)
    await messages.claim(QUEUE, lease("lapsed", ttl=60), limit=1, now=NOW)
    now = NOW + 60

    deleted = await messages.delete(QUEUE, [*every, "unknown"], holder=holder, now=now)

    assert sorted(deleted) == allowed
    kept = ids(await messages.fetch(QUEUE, every, now=now))
    assert sorted(kept) == sorted({"by c1", "by c2", "delayed", "free", "once held"} - set(allowed))
    assert (await messages.stats(QUEUE, now=now)).total == 5 - len(allowed)


async def test_id_given_twice_is_deleted_and_answered_once(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    assert await messages.delete(QUEUE, ["m00001", "m00001"], holder=ANYONE, now=NOW) == ["m00001"]
    assert (await messages.stats(QUEUE, now=NOW)).total == 1


async def test_deleting_nothing_deletes_nothing(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    assert await messages.delete(QUEUE, [], holder=ANYONE, now=NOW) == []
    assert (await messages.stats(QUEUE, now=NOW)).total == 2


async def test_deleted_message_never_returns(messages: Messages) -> None:
    await messages.append(QUEUE, [message("held"), message("free"), message("later", delay=10)])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    await messages.delete(QUEUE, ["held", "free", "later"], holder=ANYONE, now=NOW)
    for now in (NOW, NOW + 10, NOW + 60, NOW + 120):
        assert await walk(messages, now=now) == []
        assert await messages.fetch(QUEUE, ["held", "free", "later"], now=now) == []
        assert await messages.claim(QUEUE, lease(f"c{now}", since=now), limit=3, now=now) == []
        assert await messages.pop(QUEUE, limit=3, now=now) == []
        assert await messages.stats(QUEUE, now=now) == Stats()


async def test_deleting_again_answers_nothing(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1))
    assert await messages.delete(QUEUE, ["m00000"], holder=ANYONE, now=NOW) == ["m00000"]
    assert await messages.delete(QUEUE, ["m00000"], holder=ANYONE, now=NOW) == []


async def test_concurrent_deletes_answer_each_message_once(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(10))
    every = ids(numbered(10))
    answers = await asyncio.gather(*(messages.delete(QUEUE, every, holder=ANYONE, now=NOW) for _ in range(5)))
    assert sorted(id for answer in answers for id in answer) == every


# Popping


async def test_pop_takes_the_oldest_visible_messages_out(messages: Messages) -> None:
    await messages.append(QUEUE, [message("held"), message("later", delay=10), *numbered(3)])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    popped = await messages.pop(QUEUE, limit=2, now=NOW)
    assert ids(popped) == ["m00000", "m00001"]
    assert [each.claim for each in popped] == [None, None]
    assert ids(await walk(messages)) == ["held", "later", "m00002"]


async def test_popped_message_never_returns(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    await messages.pop(QUEUE, limit=2, now=NOW)
    assert await messages.pop(QUEUE, limit=2, now=NOW) == []
    assert await messages.fetch(QUEUE, ["m00000", "m00001"], now=NOW) == []
    assert await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW) == []
    assert await messages.stats(QUEUE, now=NOW) == Stats()


async def test_popping_does_not_count_as_a_claim(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", claim_count=2)])
    assert [each.claim_count for each in await messages.pop(QUEUE, limit=1, now=NOW)] == [2]


# Statistics


async def test_statistics_count_free_and_claimed_messages(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(5), message("later", delay=10)])
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    stats = await messages.stats(QUEUE, now=NOW)
    assert (stats.free, stats.claimed, stats.total) == (4, 2, 6)


async def test_ends_leave_delayed_messages_out(messages: Messages) -> None:
    await messages.append(
        QUEUE,
        [
            message("first", delay=10),
            message("second", at=NOW - 2),
            message("third", at=NOW - 1),
            message("last", delay=10),
        ],
    )
    stats = await messages.stats(QUEUE, now=NOW)
    assert stats.oldest == Edge(id="second", created=NOW - 2)
    assert stats.newest == Edge(id="third", created=NOW - 1)
    stats = await messages.stats(QUEUE, now=NOW + 10)
    assert stats.oldest == Edge(id="first", created=NOW)
    assert stats.newest == Edge(id="last", created=NOW)


async def test_ends_include_held_messages(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    await messages.claim(QUEUE, lease("c1"), limit=3, now=NOW)
    assert await messages.stats(QUEUE, now=NOW) == Stats(
        claimed=3, oldest=Edge(id="m00000", created=NOW), newest=Edge(id="m00002", created=NOW)
    )


async def test_ends_are_in_queue_order_and_not_by_creation_time(messages: Messages) -> None:
    await messages.append(QUEUE, [message("first", at=NOW + 5), message("last", at=NOW)])
    stats = await messages.stats(QUEUE, now=NOW + 5)
    assert stats.oldest == Edge(id="first", created=NOW + 5)
    assert stats.newest == Edge(id="last", created=NOW)


async def test_queue_with_only_delayed_messages_has_no_ends(messages: Messages) -> None:
    await messages.append(QUEUE, [message("later", delay=10)])
    assert await messages.stats(QUEUE, now=NOW) == Stats(free=1)


async def test_ends_leave_expired_messages_out(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", ttl=60), message("m2"), message("m3"), message("m4", ttl=60)])
    assert await messages.stats(QUEUE, now=NOW + 60) == Stats(
        free=2, oldest=Edge(id="m2", created=NOW), newest=Edge(id="m3", created=NOW)
    )


async def test_statistics_follow_every_verb(messages: Messages) -> None:
    async def counts(now: float = NOW) -> tuple[int, int]:
        stats = await messages.stats(QUEUE, now=now)
        return stats.free, stats.claimed

    await messages.append(QUEUE, [*numbered(8), message("later", delay=10), message("short", ttl=60)])
    assert await counts() == (10, 0)
    await messages.claim(QUEUE, lease("c1", ttl=30), limit=3, now=NOW)
    assert await counts() == (7, 3)
    await messages.claim(QUEUE, lease("c2", ttl=90), limit=2, now=NOW)
    assert await counts() == (5, 5)
    await messages.delete(QUEUE, ["m00000", "m00007"], holder=ANYONE, now=NOW)
    assert await counts() == (4, 4)
    await messages.pop(QUEUE, limit=1, now=NOW)
    assert await counts() == (3, 4)
    await messages.release(QUEUE, "c2", now=NOW)
    assert await counts() == (5, 2)
    await messages.renew(QUEUE, lease("c1", ttl=30, since=NOW + 20), now=NOW + 20)
    assert await counts(NOW + 49.5) == (5, 2)
    assert await counts(NOW + 50) == (7, 0)
    assert await counts(NOW + 60) == (6, 0)
    await messages.purge(QUEUE)
    assert await counts(NOW + 60) == (0, 0)


# Purging


async def test_purge_drops_every_message_and_lease(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(20), message("later", delay=10)])
    await messages.claim(QUEUE, lease("c1"), limit=5, now=NOW)
    await messages.purge(QUEUE)
    assert await walk(messages) == []
    assert await messages.fetch(QUEUE, ids(numbered(20)), now=NOW) == []
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert await messages.renew(QUEUE, lease("c1"), now=NOW) is False
    assert await messages.release(QUEUE, "c1", now=NOW) is False
    assert await messages.delete(QUEUE, ["m00000"], holder=ANYONE, now=NOW) == []
    assert await messages.pop(QUEUE, limit=10, now=NOW) == []
    assert await messages.stats(QUEUE, now=NOW) == Stats()
    assert await messages.claim(QUEUE, lease("c2", since=NOW + 60), limit=10, now=NOW + 60) == []


async def test_purged_queue_takes_messages_as_a_new_one_does(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(5))
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    await messages.purge(QUEUE)
    await messages.append(QUEUE, numbered(3, first=5))
    assert ids(await walk(messages)) == ["m00005", "m00006", "m00007"]
    assert await messages.held(QUEUE, "c1", now=NOW) is None
    assert await messages.renew(QUEUE, lease("c1"), now=NOW) is False
    taken = await messages.claim(QUEUE, lease("c2"), limit=10, now=NOW)
    assert [(each.id, each.claim_count) for each in taken] == [("m00005", 1), ("m00006", 1), ("m00007", 1)]
    assert (await messages.stats(QUEUE, now=NOW)).claimed == 3


async def test_purge_leaves_other_queues_alone(messages: Messages) -> None:
    for queue in (QUEUE, OTHER_QUEUE, OTHER_PROJECT):
        await messages.append(queue, numbered(3))
    held = await messages.claim(OTHER_QUEUE, lease("c1"), limit=1, now=NOW)
    await messages.purge(QUEUE)
    assert ids(await walk(messages, OTHER_QUEUE)) == ids(numbered(3))
    assert ids(await walk(messages, OTHER_PROJECT)) == ids(numbered(3))
    assert await messages.held(OTHER_QUEUE, "c1", now=NOW) == (lease("c1"), held)


async def test_queue_can_be_purged_again_and_again(messages: Messages) -> None:
    for round_number in range(5):
        await messages.append(QUEUE, [message(f"r{round_number}-1"), message(f"r{round_number}-2")])
        assert ids(await walk(messages)) == [f"r{round_number}-1", f"r{round_number}-2"]
        await messages.purge(QUEUE)
        await messages.purge(QUEUE)
        assert await messages.stats(QUEUE, now=NOW) == Stats()


# Volume


async def test_volume_counts_all_queues_together_without_ends(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(5))
    await messages.append(OTHER_QUEUE, numbered(3))
    await messages.append(OTHER_PROJECT, [message("later", delay=10)])
    await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    assert await messages.volume(now=NOW) == Stats(free=7, claimed=2)


async def test_volume_does_not_count_the_services_own_queues(messages: Messages) -> None:
    own = QueueKey("", "jobs")
    await messages.append(QUEUE, numbered(2))
    for dropping in (False, True):
        await messages.append(own, [*numbered(5), message("short", ttl=60), message("later", delay=10)])
        await messages.claim(own, lease("c1"), limit=2, now=NOW)
        await messages.delete(own, ["m00004"], holder=ANYONE, now=NOW)
        await messages.pop(own, limit=1, now=NOW)
        while await messages.sweep(now=NOW + 60):
            pass
        if dropping:
            await messages.purge(own)
        else:
            assert (await messages.stats(own, now=NOW + 60)).total == 4
        assert await messages.volume(now=NOW + 60) == Stats(free=2)


async def test_volume_does_not_count_what_was_deleted_popped_or_purged(messages: Messages) -> None:
    for queue in (QUEUE, OTHER_QUEUE, OTHER_PROJECT):
        await messages.append(queue, numbered(5))
    await messages.delete(QUEUE, ["m00000"], holder=ANYONE, now=NOW)
    await messages.pop(OTHER_QUEUE, limit=2, now=NOW)
    await messages.purge(OTHER_PROJECT)
    assert await messages.volume(now=NOW) == Stats(free=7)


async def test_volume_does_not_count_the_expired_once_they_are_swept(messages: Messages) -> None:
    await messages.append(QUEUE, [message("short", ttl=60), message("long")])
    while await messages.sweep(now=NOW + 60):
        pass
    assert await messages.volume(now=NOW + 60) == Stats(free=1)


# Sweeping


async def test_expired_messages_are_counted_once_by_project(backend: Backend) -> None:
    counted = backend.figures.messages = ByProject([("gold", OTHER_PROJECT.project)])
    messages = backend.messages
    await messages.append(QUEUE, numbered(3, ttl=60))
    await messages.append(OTHER_PROJECT, numbered(2, ttl=60))
    await messages.append(OTHER_QUEUE, numbered(1))
    assert await messages.pop(QUEUE, limit=9, now=NOW + 60) == []
    for _ in range(3):
        await swept(messages, NOW + 60)
    assert {name: counts.expired for name, counts in counted.classes.items()} == {"gold": 2, "other": 3}


async def test_messages_that_did_not_expire_are_not_counted_so(backend: Backend) -> None:
    messages = backend.messages
    await messages.append(QUEUE, [message("short", ttl=60), message("a"), message("b"), message("c")])
    await messages.delete(QUEUE, ["a"], holder=ANYONE, now=NOW + 60)
    assert ids(await messages.pop(QUEUE, limit=9, now=NOW + 60)) == ["b", "c"]
    await swept(messages, NOW + 9000)
    assert backend.figures.messages[QUEUE.project].expired == 1


async def swept(messages: Messages, now: float) -> int:
    """Sweep until nothing is left to reclaim; how many steps that took."""
    steps = 0
    while reclaimed := await messages.sweep(now=now):
        assert reclaimed > 0
        steps += 1
        assert steps < 20_000, "sweeping does not come to an end"
    return steps


async def test_sweeping_comes_to_an_end_and_then_answers_zero(messages: Messages) -> None:
    for first in range(0, 3000, 500):
        await messages.append(QUEUE, numbered(500, first=first, ttl=60))
    assert await swept(messages, NOW + 60) > 0
    assert await messages.sweep(now=NOW + 60) == 0
    assert await messages.volume(now=NOW + 60) == Stats()


async def test_sweep_finds_nothing_where_everything_is_live(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(3), message("later", delay=10)])
    await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
    assert await messages.sweep(now=NOW) == 0


async def test_sweeping_changes_no_answer(messages: Messages) -> None:
    async def answers(now: float) -> list[object]:
        return [
            await walk(messages, now=now),
            await walk(messages, view=PLAIN, now=now),
            await messages.fetch(QUEUE, [*ids(numbered(12)), "later", "short"], now=now),
            await messages.held(QUEUE, "c1", now=now),
            await messages.held(QUEUE, "c2", now=now),
            await messages.stats(QUEUE, now=now),
        ]

    await messages.append(QUEUE, [*numbered(12), message("later", delay=90), message("short", ttl=60)])
    await messages.append(OTHER_QUEUE, numbered(20))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=3, now=NOW)
    await messages.claim(QUEUE, lease("c2", ttl=120), limit=3, now=NOW)
    await messages.delete(QUEUE, ["m00009"], holder=ANYONE, now=NOW)
    await messages.purge(OTHER_QUEUE)
    for now in (NOW, NOW + 59.5, NOW + 60, NOW + 90, NOW + 120):
        before = await answers(now)
        await swept(messages, now)
        assert await answers(now) == before
    now = NOW + 120
    taken = await messages.claim(QUEUE, lease("c3", since=now), limit=30, now=now)
    assert ids(taken) == [*[id for id in ids(numbered(12)) if id != "m00009"], "later"]
    assert [each.claim_count for each in taken] == [2] * 6 + [1] * 6


async def test_every_step_of_a_sweep_leaves_the_answers_as_they_were(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(1500, ttl=60))
    await messages.append(QUEUE, numbered(30, first=1500))
    now = NOW + 60
    before = await walk(messages, now=now, limit=100)
    assert len(before) == 30
    while await messages.sweep(now=now):
        assert await walk(messages, now=now, limit=100) == before
        assert (await messages.stats(QUEUE, now=now)).total == 30


async def test_appends_during_a_sweep_after_a_purge_are_kept(messages: Messages) -> None:
    for first in range(0, 3000, 500):
        await messages.append(QUEUE, numbered(500, first=first))
    await messages.purge(QUEUE)
    arrived = 3000
    while await messages.sweep(now=NOW):
        await messages.append(QUEUE, numbered(1, first=arrived))
        arrived += 1
    assert ids(await walk(messages, limit=100)) == ids(numbered(arrived - 3000, first=3000))


# Projects


async def test_equally_named_queues_of_two_projects_do_not_touch(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    for queue in (OTHER_PROJECT, OTHER_QUEUE):
        assert await walk(messages, queue) == []
        assert await messages.fetch(queue, ids(numbered(3)), now=NOW) == []
        assert await messages.claim(queue, lease("c1"), limit=10, now=NOW) == []
        assert await messages.delete(queue, ids(numbered(3)), holder=ANYONE, now=NOW) == []
        assert await messages.pop(queue, limit=10, now=NOW) == []
        assert await messages.stats(queue, now=NOW) == Stats()
        await messages.purge(queue)
    assert ids(await walk(messages)) == ids(numbered(3))


async def test_claim_of_one_queue_is_unknown_to_every_other(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    held = await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
    for queue in (OTHER_PROJECT, OTHER_QUEUE):
        await messages.append(queue, numbered(2))
        assert await messages.held(queue, "c1", now=NOW) is None
        assert await messages.renew(queue, lease("c1", ttl=900), now=NOW) is False
        assert await messages.release(queue, "c1", now=NOW) is False
        mine = Holder(claims=frozenset({"c1"}))
        assert await messages.delete(queue, ["m00000"], holder=mine, now=NOW) == []
    assert await messages.held(QUEUE, "c1", now=NOW) == (lease("c1"), held)


async def test_equal_claim_ids_in_two_queues_are_two_leases(messages: Messages) -> None:
    for queue in (QUEUE, OTHER_PROJECT):
        await messages.append(queue, numbered(2))
        assert len(await messages.claim(queue, lease("c1"), limit=2, now=NOW)) == 2
    await messages.renew(QUEUE, lease("c1", ttl=900), now=NOW)
    assert await messages.release(OTHER_PROJECT, "c1", now=NOW) is True
    answer = await messages.held(QUEUE, "c1", now=NOW + 899.5)
    assert answer is not None
    assert answer[0] == lease("c1", ttl=900)


async def test_each_oddly_named_queue_is_one_of_its_own(messages: Messages) -> None:
    projects = [
        "acme",
        "Acme",
        " acme",
        "acme ",
        "a",
        "a.b",
        "caf\u00e9",
        "cafe\u0301",
        "\u043f\u0440\u043e\u0435\u043a\u0442",
        "\U0001f600" * 256,
        "x" * 256,
        "0",
        "00",
        "%",
        "_",
        "*",
        "{a}",
        "a/b",
        "a:b",
        "a|b",
        "a'b",
        'a"b',
        "a\\b",
        "a\nb",
        "a\tb",
        "../..",
        "null",
    ]
    names = ["b.c", "c", "C", "b", "0", "-", "_", ".", "..", "x" * 64]
    queues = [QueueKey(project, name) for project in projects for name in names]
    for number, queue in enumerate(queues):
        await messages.append(queue, [message("m1", body=b"%d" % number)])
    for number, queue in enumerate(queues):
        assert [each.body for each in await walk(messages, queue)] == [b"%d" % number]
    await messages.purge(QueueKey("%", "_"))
    assert (await messages.volume(now=NOW)).total == len(queues) - 1


# Depth


async def test_deep_queue_is_listed_claimed_and_emptied_in_order(messages: Messages) -> None:
    every = numbered(5000)
    for first in range(0, 5000, 250):
        await messages.append(QUEUE, every[first : first + 250])
    assert ids(await walk(messages, limit=100)) == ids(every)

    taken: list[Message] = []
    for number in range(50):
        taken += await messages.claim(QUEUE, lease(f"c{number}"), limit=20, now=NOW)
    assert ids(taken) == ids(every[:1000])
    stats = await messages.stats(QUEUE, now=NOW)
    assert (stats.free, stats.claimed) == (4000, 1000)

    for number in range(50):
        mine = Holder(claims=frozenset({f"c{number}"}))
        part = ids(taken[number * 20 : number * 20 + 20])
        assert sorted(await messages.delete(QUEUE, part, holder=mine, now=NOW)) == part

    popped: list[Message] = []
    while more := await messages.pop(QUEUE, limit=100, now=NOW):
        popped += more
    assert ids(popped) == ids(every[1000:])
    assert await messages.stats(QUEUE, now=NOW) == Stats()


async def test_many_queues_keep_their_messages_apart(messages: Messages) -> None:
    queues = [QueueKey(f"p{n % 7}", f"q{n}") for n in range(300)]
    for queue in queues:
        await messages.append(queue, [message(f"{queue.name}-1"), message(f"{queue.name}-2")])
    for queue in queues:
        assert ids(await walk(messages, queue)) == [f"{queue.name}-1", f"{queue.name}-2"]
    assert (await messages.volume(now=NOW)).total == 600


async def test_consumers_with_lapsing_leases_see_each_message_until_it_is_deleted(messages: Messages) -> None:
    """A slow consumer lets every second lease lapse; nothing is lost and nothing comes back."""
    await messages.append(QUEUE, numbered(40))
    done: list[str] = []
    now = NOW
    for step in range(200):
        taken = await messages.claim(QUEUE, lease(f"c{step}", ttl=60, since=now), limit=3, now=now)
        assert not set(ids(taken)) & set(done)
        assert all(one.id < two.id for one, two in pairwise(taken))
        if step % 2:
            now += 60
            continue
        mine = Holder(claims=frozenset({f"c{step}"}))
        done += await messages.delete(QUEUE, ids(taken), holder=mine, now=now)
    assert sorted(done) == ids(numbered(40))


def test_lease_arithmetic_is_that_of_the_model() -> None:
    assert Lease(id="c1", ttl=60, grace=5, since=NOW).due == NOW + 60


# What comes due


async def due(messages: Messages, queue: QueueKey = QUEUE, *, at: float = NOW) -> float | None:
    """Seconds from NOW to what comes due next."""
    found = await messages.next_due(queue, now=at)
    return None if found is None else found - NOW


async def test_nothing_comes_due_where_nothing_is_held_or_delayed(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    assert await due(messages) is None


async def test_the_next_due_is_the_end_of_the_delay_that_ends_first(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1", delay=9), message("m2"), message("m3", delay=5)])
    await messages.append(QUEUE, [message("m4", delay=7)])
    assert [await due(messages, at=NOW + at) for at in (0, 4.75, 5, 6, 7, 8.5, 9, 20)] == [
        *(5.0, 5.0, 7.0, 7.0, 9.0, 9.0, None, None)
    ]


async def test_the_next_due_is_the_end_of_the_lease_that_ends_first(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(3))
    await messages.claim(QUEUE, lease("c1", ttl=90), limit=1, now=NOW)
    await messages.claim(QUEUE, lease("c2", ttl=60), limit=1, now=NOW)
    assert [await due(messages, at=NOW + at) for at in (0, 59.5, 60, 89, 90)] == [
        *(60.0, 60.0, 90.0, 90.0, None)
    ]


@pytest.mark.parametrize("ttl, expected", [(30, 40.0), (300, 310.0)])
async def test_the_next_due_follows_a_lease_that_is_renewed(
    messages: Messages, ttl: int, expected: float
) -> None:
    await messages.append(QUEUE, numbered(1))
    await messages.claim(QUEUE, lease("c1", ttl=100), limit=1, now=NOW)
    await messages.renew(QUEUE, lease("c1", ttl=ttl, since=NOW + 10), now=NOW + 10)
    assert await due(messages, at=NOW + 10) == expected


async def test_what_is_given_back_or_gone_or_undelayed_does_not_come_due(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(3), message("later", delay=30)])
    for number, claim in enumerate(["c1", "c2", "c3"]):
        await messages.claim(QUEUE, lease(claim, ttl=10 + number), limit=1, now=NOW)
    assert await due(messages) == 10.0
    await messages.release(QUEUE, "c1", now=NOW)
    assert await due(messages) == 11.0
    await messages.delete(QUEUE, ["m00001"], holder=ANYONE, now=NOW)
    assert await due(messages) == 12.0
    await messages.delete(QUEUE, ["m00002"], holder=Holder(claims=frozenset({"c3"})), now=NOW)
    assert await due(messages) == 30.0
    await messages.end_delays(QUEUE)
    assert await due(messages) is None


async def test_what_lapsed_and_was_not_swept_is_not_due_any_more(messages: Messages) -> None:
    await messages.append(QUEUE, numbered(2))
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    await messages.claim(QUEUE, lease("c2", ttl=80), limit=1, now=NOW)
    assert await due(messages, at=NOW + 70) == 80.0
    await messages.claim(QUEUE, lease("c3", ttl=60, since=NOW + 70), limit=1, now=NOW + 70)
    assert await due(messages, at=NOW + 70) == 80.0
    assert await due(messages, at=NOW + 80) == 130.0


async def test_a_sweep_changes_nothing_about_what_comes_due(messages: Messages) -> None:
    await messages.append(QUEUE, [*numbered(1), message("m2", delay=5), message("m3", delay=80)])
    await messages.claim(QUEUE, lease("c1", ttl=60), limit=1, now=NOW)
    while await messages.sweep(now=NOW + 10):
        pass
    assert [await due(messages, at=NOW + at) for at in (10, 70)] == [60.0, 80.0]


async def test_what_comes_due_is_each_queues_own_and_goes_with_a_purge(messages: Messages) -> None:
    await messages.append(OTHER_QUEUE, [message("m1", delay=5)])
    await messages.append(OTHER_PROJECT, [message("m1", delay=6)])
    await messages.append(QUEUE, [message("m1", delay=7)])
    assert [await due(messages, queue) for queue in (QUEUE, OTHER_QUEUE, OTHER_PROJECT)] == [7.0, 5.0, 6.0]
    await messages.purge(QUEUE)
    assert await due(messages) is None


async def test_message_that_ends_before_its_delay_hides_no_later_one(messages: Messages) -> None:
    """A store may name its time, at which nothing happens, but then goes on to the next."""
    await messages.append(QUEUE, [message("m1", ttl=60, delay=90), message("m2", delay=200)])
    times, at = [], NOW
    while (found := await messages.next_due(QUEUE, now=at)) is not None:
        assert found > at
        times.append(found - NOW)
        at = found
    assert set(times) - {90.0} == {200.0}


# --- marks ---------------------------------------------------------------------------------------------


async def test_append_answers_the_queues_note(messages: Messages) -> None:
    assert await messages.append(QUEUE, [message("m1")]) is None
    await messages.mark(QUEUE, "s1")
    assert await messages.append(QUEUE, [message("m2")], noted="s") == "s1"
    assert await messages.append(QUEUE, []) == "s1"
    await messages.mark(QUEUE, "s2")
    assert await messages.append(QUEUE, [message("m2")], noted="s") == "s2"


async def test_append_that_meets_a_note_of_another_kind_stores_nothing(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1")], noted="s")
    await messages.mark(QUEUE, "s1")
    assert await messages.append(QUEUE, [message("m2")]) == "s1"
    assert await messages.append(QUEUE, [message("m3"), message("m4")], noted="r") == "s1"
    assert await messages.append(QUEUE, [message("m5")], noted="s") == "s1"
    assert ids(await walk(messages, QUEUE)) == ["m1", "m5"]
    assert (await messages.stats(QUEUE, now=NOW)).total == 2


async def test_later_kind_of_note_stays_while_the_rest_is_replaced(messages: Messages) -> None:
    for put, answered in (("b1", "b1"), ("c2", "c2"), ("a3", "c3"), ("c4", "c4"), ("b5", "c5")):
        await messages.mark(QUEUE, put)
        assert await messages.append(QUEUE, []) == answered
    assert not await messages.unmark(QUEUE, "b5")
    assert await messages.unmark(QUEUE, "c5")
    await messages.mark(QUEUE, "a6")
    assert await messages.append(QUEUE, []) == "a6"


async def test_notes_put_at_once_keep_the_later_kind(messages: Messages) -> None:
    await asyncio.gather(*(messages.mark(QUEUE, f"{kind}{number}") for number, kind in enumerate("abcab")))
    note = await messages.append(QUEUE, [])
    assert note is not None
    assert note[0] == "c"


async def test_note_is_one_queues_only(messages: Messages) -> None:
    await messages.mark(QUEUE, "s1")
    assert await messages.append(OTHER_QUEUE, [message("m1")]) is None
    assert await messages.append(OTHER_PROJECT, [message("m1")]) is None


async def test_note_goes_only_when_it_is_the_one_meant(messages: Messages) -> None:
    await messages.mark(QUEUE, "s1")
    await messages.mark(QUEUE, "s2")
    assert not await messages.unmark(QUEUE, "s1")
    assert await messages.append(QUEUE, [message("m1")], noted="s") == "s2"
    assert await messages.unmark(QUEUE, "s2")
    assert not await messages.unmark(QUEUE, "s2")
    assert await messages.append(QUEUE, [message("m2")]) is None


async def test_note_outlasts_a_purge_and_an_empty_queue(messages: Messages) -> None:
    await messages.append(QUEUE, [message("m1")])
    await messages.mark(QUEUE, "s1")
    await messages.purge(QUEUE)
    while await messages.sweep(now=NOW + 9000):
        pass
    assert await messages.append(QUEUE, [message("m2")], noted="s") == "s1"
    await messages.pop(QUEUE, limit=1, now=NOW)
    assert await messages.append(QUEUE, [message("m3")], noted="s") == "s1"
