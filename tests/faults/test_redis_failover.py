"""Services on servers that take over from each other, under load: what each setting loses by that.

Where the store claims to be durable it must lose nothing. Elsewhere the audit counts what is lost, and
still holds the store to the rest: the last writes may be gone, no others, batches as a whole, in order,
nothing invented, nothing in another project.

Short: a failover of each kind. SUKKAL_LONG=1: many.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis_servers import DURABLE, Group, RedisServer, cluster, sentinel_group, until

from sukkal.errors import StoreUnavailable
from sukkal.stores.contract import Backend, Trait
from sukkal.stores.redis.layout import Layout
from sukkal.stores.registry import open_backend

from .audit import Record
from .lapse import audit_after_lapse
from .load import QUEUES
from .outage import Loss, audited, service, under_load
from .victim import LONG, seed

pytestmark = pytest.mark.faults

log = logging.getLogger(__name__)

ROUNDS = 10 if LONG else 1
PATIENCE = 1.2  # seconds a server may be silent until another takes over
LAG = 0.3  # seconds a replica is behind when its primary is killed
OLDEST_LOSS = 10.0  # seconds before its primary was gone; generous: a loaded test machine

MASTER = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")

Disturb = Callable[[Group, random.Random, int], "Failover"]


class Failover:
    """What happened to a group, at what time, and what puts it right again."""

    def __init__(self, group: Group, killed: RedisServer | None = None, key: str = "") -> None:
        """`key` is one that the killed server held."""
        self.at = time.time()
        self._group = group
        self._killed = killed
        self._key = key

    def recover(self) -> None:
        """Return when what was killed is back, as a replica."""
        group, killed = self._group, self._killed
        if killed is None:
            return
        until(lambda: group.takes_writes(self._key))
        if group.uri.startswith("redis+cluster:"):
            killed.start()
        else:
            killed.start("--replicaof", "127.0.0.1", str(group.primary().port))
        until(lambda: whole(group))


def whole(group: Group) -> bool:
    """Whether all are there, and every replica is in touch with its primary."""
    if group.uri.startswith("redis+cluster:") and not all(
        b"cluster_state:ok" in said(server, "CLUSTER", "INFO") for server in group.members
    ):
        return False
    roles = [said(server, "INFO", "replication") for server in group.members]
    primaries = [role for role in roles if b"role:master" in role]
    linked = sum(b"master_link_status:up" in role for role in roles)
    return linked == len(primaries) * group.replicas == len(roles) - len(primaries) and all(
        role.count(b"state=online") == group.replicas for role in primaries
    )


def said(server: RedisServer, *command: str) -> bytes:
    """The beginning of its answer; nothing, if it gives none."""
    try:
        return server.ask(*command)
    except OSError:
        return b""


def kill(group: Group, chance: random.Random, min_replicas: int) -> Failover:
    """Kill a primary."""
    key = loaded_key(chance)
    primary = group.primary(key)
    primary.kill()
    return Failover(group, primary, key)


def kill_ahead(group: Group, chance: random.Random, min_replicas: int) -> Failover:
    """Kill a primary that has gone on for a moment without its replicas, as over a line that is cut.

    If some but not all of them must have a write, one hears everything.
    """
    key = loaded_key(chance)
    primary = group.primary(key)
    replicas = [server for server in group.members if str(server.port) in replica_ports(primary)]
    assert len(replicas) == group.replicas
    cut_off = replicas[1:] if 0 < min_replicas < group.replicas else replicas
    with contextlib.ExitStack() as undo:
        for replica in cut_off:
            undo.enter_context(replica.stopped())
        primary.ask("CLIENT", "KILL", "TYPE", "replica")
        time.sleep(LAG)  # what is tested: no condition to wait for
        primary.kill()
        return Failover(group, primary, key)


def command_failover(group: Group, chance: random.Random, min_replicas: int) -> Failover:
    """Have the sentinels put another in the place of a primary that is well."""
    primary = group.primary()
    until(lambda: group.sentinels[0].ask("SENTINEL", "FAILOVER", "main") == b"+OK\r\n")
    until(lambda: sum(b"role:master" in said(each, "INFO", "replication") for each in group.members) == 2)
    failover = Failover(group)
    until(lambda: str(primary.port).encode() not in group.sentinels[0].ask(*MASTER))
    return failover


def loaded_key(chance: random.Random) -> str:
    """A key beside those of a queue under load."""
    return Layout("sukkal").queue(chance.choice(QUEUES)).tag.decode()


def replica_ports(primary: RedisServer) -> set[str]:
    fields = primary.ask("INFO", "replication").decode().replace("\r\n", ",").split(",")
    return {field.removeprefix("port=") for field in fields if field.startswith("port=")}


@pytest.fixture(params=[0, 1, 2])
def min_replicas(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def sentinels() -> Iterator[Group]:
    with sentinel_group(*DURABLE, patience=PATIENCE) as group:
        yield group


@pytest.fixture
def nodes() -> Iterator[Group]:
    with cluster(*DURABLE, patience=PATIENCE) as group:
        yield group


async def fail_over_under_load(
    directory: Path, group: Group, min_replicas: int, kinds: list[Disturb], *, rounds: int = ROUNDS
) -> Record:
    """Let the group fail over in each of these ways, auditing after each; the record."""
    chance = random.Random(seed())
    uri = f"{group.uri}?min_replicas={min_replicas}"
    backend = await open_backend(uri)
    durable = Trait.DURABLE in backend.traits
    assert durable is (min_replicas >= group.replicas)
    record = Record(forgives=not durable)
    refusals = 0
    async with service(directory, uri) as server:
        for kind in kinds * rounds:
            failovers: list[Failover] = []
            before, lost = record.answers, len(record.lost)
            forgiven = record.forgiven.copy()
            load = await under_load(
                record,
                server,
                chance,
                lambda kind=kind, failovers=failovers: failovers.append(kind(group, chance, min_replicas)),
                lambda failovers=failovers: failovers[0].recover(),
            )
            await asyncio.to_thread(until, lambda: whole(group))
            await audited(record, server)
            server.check()
            refusals += sum(number for (_, status), number in load.answers.items() if status == 503)
            loss = Loss.of(record.lost[lost:])
            assert failovers[0].at - loss.first < OLDEST_LOSS
            log.warning(
                "%s, min_replicas=%d, %s: of %d answers lost %s; %s",
                *(group.uri.partition(":")[0], min_replicas, kind.__name__, record.answers - before),
                *(loss, dict(record.forgiven - forgiven)),
            )
    assert refusals or command_failover in kinds, "the failovers have hit nothing"
    async with asyncio.timeout(90):
        while not await answers(backend):  # noqa: ASYNC110 - nobody tells us when
            await asyncio.sleep(0.05)
    await audit_after_lapse(record, backend.messages)
    await backend.close()
    if durable:
        assert not record.lost
        assert not record.forgiven
    return record


async def answers(backend: Backend) -> bool:
    try:
        await backend.ping()
    except StoreUnavailable:
        return False
    return True


async def test_killed_primary_of_sentinels(tmp_path: Path, sentinels: Group, min_replicas: int) -> None:
    record = await fail_over_under_load(tmp_path, sentinels, min_replicas, [kill_ahead, kill])
    assert min_replicas or record.lost, "a lag that loses nothing tests nothing"


async def test_failover_that_sentinels_are_told_to_make(
    tmp_path: Path, sentinels: Group, min_replicas: int
) -> None:
    await fail_over_under_load(tmp_path, sentinels, min_replicas, [command_failover])


@pytest.mark.parametrize("min_replicas", [0, 1])
async def test_lost_primary_of_a_cluster(tmp_path: Path, nodes: Group, min_replicas: int) -> None:
    record = await fail_over_under_load(tmp_path, nodes, min_replicas, [kill_ahead, kill])
    assert min_replicas or record.lost, "a lag that loses nothing tests nothing"
