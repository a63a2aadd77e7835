"""What a run does: everything its processes must know."""

import math

import msgspec

from sukkal.bench.calls import Caller, Target


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    target: Target
    scenario: str
    bodies: list[str]  # raw JSON
    headers: dict[str, str]  # of an identity; never shown
    projects: list[str]
    queues: list[str]
    duration: float  # s, measured
    warmup: float  # s before, not measured
    interval: float  # s, of one sample
    timeout: float  # s until a request counts as lost
    connections: int  # in all processes together
    rate: (
        float | None
    )  # turns per second, in all processes together; None: each as soon as the last one ended
    processes: int
    batch: int  # messages of a post
    limit: int  # messages of a claim or a page
    pipeline: int  # requests under way on a WebSocket
    backlog: int  # messages in the queues before the start
    wait: int  # s a reader waits for messages
    ttl: int  # s, of messages

    @property
    def intervals(self) -> int:
        """How many the measured time has; the last may be shorter."""
        return math.ceil(self.duration / self.interval - 1e-6)

    def caller(self, client: str, project: str) -> Caller:
        return Caller(self.target, client, project, self.headers)
