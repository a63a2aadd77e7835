"""A run from its preparation to its result: what the parent process does."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime

import msgspec

from sukkal import __version__
from sukkal.bench.bodies import Posts
from sukkal.bench.calls import Request
from sukkal.bench.lines import HttpLine
from sukkal.bench.plan import Plan
from sukkal.bench.result import Load, Merged, Moment, Result
from sukkal.bench.samples import Interval
from sukkal.bench.scenarios import cleaning, preparation
from sukkal.bench.worker import DRAIN, Refused, Task

_PREPARERS = 8  # connections
_HEAD_START = 0.1  # s between the word to start and the start, for every process to hear it
_PATIENCE = 60.0  # s for a process to open its connections
_LONGEST_LINE = 64 * 1024 * 1024  # bytes of an interval as JSON


class CannotRun(Exception):
    """The text says why there is no result."""


async def run(
    plan: Plan,
    *,
    keep: bool = False,
    told: Callable[[str], None] = lambda stage: None,
    progress: Callable[[Moment], None] = lambda moment: None,
) -> Result:
    """Prepare queues, load the server, delete the queues unless they are to be kept. Raises CannotRun.

    `told` hears what is being done, `progress` of each interval as it ends.
    """
    told("preparing")
    try:
        await _carry_out(plan, preparation(plan, Posts(plan.bodies, batch=plan.batch, ttl=plan.ttl)))
        started = datetime.now(UTC)
        async with _workers(plan) as workers:
            told("warming up" if plan.warmup else "measuring")
            merged = await _gather(plan, workers, progress)
    finally:
        if not keep:
            told("cleaning up")
            with contextlib.suppress(CannotRun):  # what went wrong before is the better reason
                await _carry_out(plan, cleaning(plan))
    result = merged.result(
        tool=__version__,
        started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        target=f"{plan.target.scheme}://{plan.target.authority}{plan.target.prefix}",
        load=_described(plan),
    )
    if not result.operations:
        first = next(iter(result.errors), "nothing was answered")
        raise CannotRun(f"No request succeeded: {first}.")
    return result


def _described(plan: Plan) -> Load:
    return Load(
        scenario=plan.scenario,
        duration=plan.duration,
        warmup=plan.warmup,
        connections=plan.connections,
        rate=plan.rate,
        processes=plan.processes,
        batch=plan.batch,
        limit=plan.limit,
        pipeline=plan.pipeline,
        backlog=plan.backlog,
        queues=len(plan.queues),
        projects=len(plan.projects),
        body_bytes=[len(body) for body in plan.bodies[:100]],
    )


# --- preparation ----------------------------------------------------------------------------------------


class _Once:
    """Waits for the answer to one request."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, body: bytes) -> None:
        self.answer.set_result((status, body))

    def lost(self, reason: str) -> None:
        self.answer.set_exception(ConnectionError(reason))


async def _carry_out(plan: Plan, requests: Iterable[Request]) -> None:
    """Do what is asked, several at a time. Raises CannotRun at the first that fails."""
    todo = iter(requests)

    async def work() -> None:
        line = HttpLine(plan.target)
        try:
            for request in todo:
                once = _Once()
                line.send(request, once)
                async with asyncio.timeout(plan.timeout):
                    status, body = await once.answer
                if status not in request.expect:
                    text = body[:300].decode(errors="replace")
                    raise CannotRun(f"{request.name} was answered {status}: {text}")
        except OSError as exc:
            url = f"{plan.target.scheme}://{plan.target.authority}"
            raise CannotRun(f"{url} does not answer: {str(exc) or type(exc).__name__}.") from exc
        finally:
            line.close()

    done = await asyncio.gather(*(work() for _ in range(_PREPARERS)), return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each


# --- processes ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _workers(plan: Plan) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Every process of the load, connected and waiting for the word to start."""
    workers: list[asyncio.subprocess.Process] = []
    try:
        for number in range(plan.processes):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sukkal.bench.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            workers.append(process)
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(Task(plan=plan, process=number)) + b"\n")
        for process in workers:
            told = msgspec.json.decode(await _line(process, _PATIENCE), type=Refused)
            if told.refused:
                raise CannotRun(told.refused)
        yield workers
    finally:
        for process in workers:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process, seconds: float) -> bytes:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(seconds):
            line = await process.stdout.readline()
    except TimeoutError as exc:
        raise CannotRun("A process of the load does not answer.") from exc
    if not line:
        raise CannotRun(f"A process of the load ended with {await process.wait()}.")
    return line


async def _gather(
    plan: Plan, workers: list[asyncio.subprocess.Process], progress: Callable[[Moment], None]
) -> Merged:
    merged = Merged(plan.processes)
    start = time.perf_counter() + _HEAD_START
    decode = msgspec.json.Decoder(Interval).decode

    async def listen(process: asyncio.subprocess.Process) -> None:
        patience = plan.warmup + plan.interval + DRAIN + _PATIENCE
        for _ in range(plan.intervals):
            if moment := merged.add(decode(await _line(process, patience)), last=False):
                progress(moment)
        merged.add(decode(await _line(process, patience)), last=True)
        await process.wait()

    for process in workers:
        assert process.stdin is not None
        process.stdin.write(b"%r\n" % start)
    async with asyncio.TaskGroup() as listening:
        for process in workers:
            listening.create_task(listen(process))
    return merged
