"""Paging with the id of the last message seen, as the OpenStack SDK does."""

from .world import World, ids


async def test_reader_that_deletes_what_it_read_goes_on_behind_it(world: World) -> None:
    posted = await world.post("orders", *range(7))
    seen: list[str] = []
    marker = None
    while page := ids(
        (await world.call("messages.list", queue="orders", marker=marker, limit=3, echo=True)).messages
    ):
        seen += page
        marker = page[-1]
        for id in page:
            await world.call("messages.delete", queue="orders", id=id)
    assert seen == posted


async def test_id_that_was_never_the_end_of_a_page_leads_nowhere_once_it_is_gone(world: World) -> None:
    first, second, *_ = await world.post("orders", *range(5))
    await world.call("messages.list", queue="orders", limit=2, echo=True)
    await world.call("messages.delete", queue="orders", id=first)
    listed = await world.call("messages.list", queue="orders", marker=first, echo=True)
    assert listed.messages == []
    assert len((await world.call("messages.list", queue="orders", marker=second, echo=True)).messages) == 3
