"""Several processes that do the same work: started, watched, replaced when they die, and stopped together."""

import contextlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from types import FrameType
from typing import NamedTuple

log = logging.getLogger(__name__)

REPLACE_AFTER = 1.0  # seconds from a worker's death until another takes its place; it may die at once again
LOOK_EVERY = 0.1  # seconds between looks at what is to be done

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_FORK = multiprocessing.get_context("fork")  # what is set up before is there in each worker

Work = Callable[[Callable[[], None], int], None]


def run(count: int, work: Work, *, ready: Callable[[], None], patience: float) -> int:
    """Keep `count` processes at `work` until SIGTERM or SIGINT; the exit status.

    `work` is called in each with a function by which it says that it is ready, and the number of its place,
    from 0, which whoever replaces it takes over; it ends the process by SystemExit or by returning, on a
    signal and when `supervisor_gone` can be read. `ready` is called once, when all are. When a worker ends
    before that, all are stopped, and its status is the result: another would fail as well. One that ends
    later is replaced. Those that go on for `patience` seconds after they were
    told to end are killed.
    """
    return _Supervisor(count, work, ready, patience).run()


def supervisor_gone() -> int:
    """In a worker: a file descriptor that can be read from when the supervisor is no more."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    return supervisor.sentinel


class _Post(NamedTuple):
    """A worker's."""

    place: int
    ready: Event  # set when the worker is


class _Supervisor:
    def __init__(self, count: int, work: Work, ready: Callable[[], None], patience: float) -> None:
        self._count = count
        self._work = work
        self._ready = ready
        self._patience = patience
        self._workers: dict[BaseProcess, _Post] = {}
        self._vacant = dict.fromkeys(range(count), 0.0)  # when each place that is free is to be filled
        self._told_to_stop = False
        self._announced = False

    def run(self) -> int:
        status = 0
        with self._signals():
            try:
                while not self._told_to_stop and not status:
                    self._fill()
                    wait([worker.sentinel for worker in self._workers], LOOK_EVERY)
                    status = self._bury()
                    if not self._announced and not status and self._all_ready():
                        self._announced = True
                        self._ready()
            finally:
                self._stop()
        return status

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._told_to_stop = True

        before = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _all_ready(self) -> bool:
        posts = self._workers.values()
        return len(posts) == self._count and all(post.ready.is_set() for post in posts)

    def _fill(self) -> None:
        now = time.monotonic()
        for place in [place for place, when in self._vacant.items() if when <= now]:
            del self._vacant[place]
            post = _Post(place, _FORK.Event())
            worker = _FORK.Process(target=_begin, args=(self._work, post))
            # Or one told to end at once would take the signal with our handler, and go on.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                worker.start()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self._workers[worker] = post

    def _bury(self) -> int:
        """Take note of workers that have ended; the status to end with, 0 to go on."""
        for worker in [worker for worker in self._workers if not worker.is_alive()]:
            post = self._workers.pop(worker)
            status = worker.exitcode or 0
            log.error("worker %d ended with status %d", worker.pid, status)
            if not self._announced:
                return abs(status) or 1
            self._vacant[post.place] = time.monotonic() + REPLACE_AFTER
        return 0

    def _stop(self) -> None:
        """Let the workers finish, and wait for them."""
        for worker in self._workers:
            worker.terminate()
        latest = time.monotonic() + self._patience
        for worker in self._workers:
            worker.join(max(0.0, latest - time.monotonic()))
            if worker.is_alive():
                log.error("worker %d did not end in time and is killed", worker.pid)
                worker.kill()
                worker.join()


def _begin(work: Work, post: _Post) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    work(post.ready.set, post.place)
