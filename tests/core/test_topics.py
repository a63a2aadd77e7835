"""Topics: as queues, apart from queues."""

from typing import Any

import pytest

from sukkal.errors import Conflict, Invalid, InvalidBody, NotFound
from sukkal.model import QueueKey, topic, topic_of
from sukkal.operations import TABLE

from .world import Stage, World, bodies

NEWS = topic("news")


@pytest.fixture
def world() -> World:
    return World(subscriber_types=["http"])


async def topics(world: World, **fields: Any) -> list[str]:
    answer = await world.call("topics.list", **fields)
    return [each.name for each in answer.queues]


def test_name_of_a_topic_is_no_name_of_a_queue() -> None:
    assert (topic_of(topic("news")), topic_of("news"), topic_of("topic")) == ("news", None, None)
    assert (QueueKey("p", NEWS).title, QueueKey("p", NEWS).kind) == ("news", "topic")
    assert (QueueKey("p", "news").title, QueueKey("p", "news").kind) == ("news", "queue")


async def test_topic_and_queue_of_one_name_know_nothing_of_each_other(world: World) -> None:
    await world.create("news", team="blue")
    await world.call("topics.create", queue=NEWS, metadata={"team": "red"})
    await world.post("news", "queued")
    await world.post(NEWS, "told")
    for queue, body, team in (("news", "queued", "blue"), (NEWS, "told", "red")):
        assert bodies(await world.listed(queue)) == [body]
        assert (await world.call("queues.get", queue=queue)).stored == {"team": team}
        assert (await world.call("topics.stats", queue=queue)).free == 1
    assert (await topics(world), await world.queues()) == (["news"], ["news"])

    await world.call("topics.purge", queue=NEWS)
    assert bodies(await world.listed("news")) == ["queued"]
    await world.call("topics.delete", queue=NEWS)
    assert (await topics(world), await world.queues()) == ([], ["news"])
    await world.call("topics.create", queue=NEWS)
    await world.call("queues.delete", queue="news")
    assert (await topics(world), await world.queues()) == (["news"], [])


async def test_topics_of_two_projects_are_two(world: World) -> None:
    await world.call("topics.create", queue=NEWS, metadata={"a": 1})
    assert await topics(world, project="umbrella") == []
    assert (await world.call("topics.get", project="umbrella", queue=NEWS)).stored == {}


async def test_topic_comes_into_being_with_its_first_message_or_subscription(world: World) -> None:
    await world.post(NEWS, 1)
    await world.call("subscriptions.create", queue=topic("other"), subscriber="http://a.example/")
    assert await topics(world) == ["news", "other"]
    assert await world.queues() == []


async def test_creating_again_changes_nothing(world: World) -> None:
    assert (await world.call("topics.create", queue=NEWS, metadata={"a": 1})).created
    assert not (await world.call("topics.create", queue=NEWS, metadata={"a": 2})).created
    assert (await world.call("topics.get", queue=NEWS)).stored == {"a": 1}


async def test_three_defaults_are_shown(world: World) -> None:
    for name in ("absent", "news"):
        shown = (await world.call("topics.get", queue=topic(name))).shown
        assert shown == {
            "_max_messages_post_size": 262144,
            "_default_message_ttl": 3600,
            "_default_message_delay": 0,
        }
        await world.call("topics.create", queue=NEWS)


async def test_attributes_hold_for_topics_too(world: World) -> None:
    with pytest.raises(Invalid, match="_default_message_ttl can not exceed"):
        await world.call("topics.create", queue=NEWS, metadata={"_default_message_ttl": 1})
    await world.call("topics.create", queue=NEWS, metadata={"_default_message_ttl": 77})
    await world.post(NEWS, 1)
    assert (await world.listed(NEWS))[0].ttl == 77


async def test_metadata_is_patched_as_a_queues_is(world: World) -> None:
    change = {"op": "add", "path": "/metadata/team", "value": "red"}
    with pytest.raises(NotFound, match="Topic news does not exist for project acme"):
        await world.call("topics.update", queue=NEWS, changes=[change])
    await world.call("topics.create", queue=NEWS)
    answer = await world.call("topics.update", queue=NEWS, changes=[change])
    assert answer.shown.keys() == {
        "team",
        "_max_messages_post_size",
        "_default_message_ttl",
        "_default_message_delay",
    }
    for key in ("_dead_letter_queue", "_max_claim_count"):  # reserved, though they are not shown
        await world.call("topics.update", queue=NEWS, changes=[{"op": "remove", "path": f"/metadata/{key}"}])
    with pytest.raises(Conflict, match="Can't remove non-existent object key"):
        await world.call("topics.update", queue=NEWS, changes=[{"op": "remove", "path": "/metadata/x"}])
    with pytest.raises(InvalidBody):
        await world.call("topics.update", queue=NEWS, changes=[{"op": "move", "path": "/metadata/x"}])


async def test_topics_are_listed_by_name_filtered_and_counted(world: World) -> None:
    for name in ("b", "a", "c.x", "c"):
        await world.call("topics.create", queue=topic(name), metadata={"team": name[0]})
    await world.create("queue-beside")
    assert await topics(world) == ["a", "b", "c", "c.x"]
    assert await topics(world, limit=2, marker="a") == ["b", "c"]
    assert await topics(world, name="c") == ["c", "c.x"]
    assert await topics(world, filters={"team": "c"}) == ["c", "c.x"]
    assert (await world.call("topics.list", with_count=True)).count == 4
    assert (await world.call("topics.list", with_count=True, name="c")).count == 2


async def test_what_is_missing_is_told_in_words_of_topics(world: World) -> None:
    with pytest.raises(NotFound, match="Topic news does not exist for project acme"):
        await world.get(NEWS, "1")
    await world.call("topics.create", queue=NEWS)
    with pytest.raises(NotFound, match="Message 1 does not exist in topic news for project acme"):
        await world.get(NEWS, "1")
    with pytest.raises(NotFound, match="found in the topic news for project acme"):
        await world.call("messages.get_many", queue=NEWS, ids=["1"])


async def test_missing_topic_has_statistics_of_zeros(world: World) -> None:
    stats = await world.call("topics.stats", queue=NEWS)
    assert (stats.claimed, stats.free, stats.exists) == (0, 0, False)


async def test_listener_is_told_the_name_that_users_know(world: World) -> None:
    id_ = (await world.call("subscriptions.create", queue=NEWS, subscriber="http://a.example/")).id
    subscription = await world.call("topics.subscriptions.get", queue=NEWS, subscription_id=id_)
    assert subscription.source == "news"


async def test_records_lie_where_they_can_be_found_by_name() -> None:
    """Documents of topics are named as their users do, so that markers of listings are names."""
    stage = Stage()
    await World(stage).call("topics.create", queue=NEWS)
    assert await topics(World(stage), marker="newr") == ["news"]
    assert await topics(World(stage), marker="news") == []


def test_every_topic_operation_is_served(world: World) -> None:
    assert {row.like for row in TABLE if row.like} == {
        row.name
        for row in TABLE
        if row.name.startswith(("queues.", "messages.", "subscriptions.")) and row.name != "queues.share"
    }
