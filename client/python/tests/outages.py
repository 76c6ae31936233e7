"""A coordinator that dies in mid-traffic, and workers that are frozen."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from support.api import Api
from support.server import Server
from support.worker import Worker

from leasehold import Coordinator, EntryRef, Policy, Rendered, State

WAIT_SECONDS = 60.0
FROZEN_SECONDS = 10.0
NORMAL = {State.HIT, State.MISS, State.WAIT_HIT, State.STALE}


class Traffic:
    """A visitor who comes back as soon as he was served, and notes how."""

    def __init__(self, visit: Callable[[], State]) -> None:
        self._visit = visit
        self._over = threading.Event()
        self._changed = threading.Condition()
        self.served: list[tuple[float, float, State]] = []
        """From when, until when, and how."""
        self.failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.005):
            begun = time.monotonic()
            try:
                state = self._visit()
            except Exception as error:
                self.failures.append(error)
            else:
                with self._changed:
                    self.served.append((begun, time.monotonic(), state))
                    self._changed.notify_all()

    def wait_for(self, states: set[State], since: float, visits: int = 1) -> float:
        """Until so many visits that began after `since` were served so; the time at which the last of them was."""

        def found() -> list[float]:
            return [end for begun, end, state in self.served if begun >= since and state in states]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= visits, WAIT_SECONDS), self.served[-5:]
            return found()[visits - 1]

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def it_serves_through_an_outage_and_is_back_within_a_second(
    api: Api, new_server: Callable[..., Server], connect: Callable[..., Coordinator], name: str
) -> None:
    server = new_server()
    coordinator = connect(server.address)
    pages, data = api.pages(coordinator), api.data(coordinator)
    policy = Policy.blocking(600)
    unknown = iter(range(10**9))

    def visit(entry: EntryRef) -> State:
        return pages.serve(entry, policy, lambda _: Rendered(body="page")).state

    def fetch() -> State:
        return State.HIT if data.with_revalidate(name, 600, lambda: 1) == 1 else State.BYPASS

    assert visit(EntryRef(name)) is State.MISS
    traffic = [
        Traffic(lambda: visit(EntryRef(name))),
        Traffic(lambda: visit(EntryRef(f"{name}-{next(unknown)}"))),
        Traffic(fetch),
    ]
    known, new, values = traffic
    for part in traffic:
        part.wait_for(NORMAL, 0.0)
    for _ in range(3):
        server.kill()
        killed = time.monotonic()
        # What is known is served as it was last known, and what is not is rendered: for so long that the coordinator is
        # hardly asked any more.
        known.wait_for({State.STALE_METADATA_ERROR}, killed, visits=20)
        new.wait_for({State.BYPASS}, killed, visits=20)
        values.wait_for({State.HIT}, killed, visits=20)
        server.start()
        back = server.wait_until_it_answers()
        for part in (known, new):
            assert part.wait_for(NORMAL, killed) - back <= 1.0
    for part in traffic:
        part.end()
    assert [failure for part in traffic for failure in part.failures] == []


def it_does_not_ask_a_coordinator_that_is_down_all_the_time(
    api: Api, new_server: Callable[..., Server], connect: Callable[..., Coordinator], name: str
) -> None:
    server = new_server()
    pages = api.pages(connect(server.address))
    policy = Policy.blocking(600)

    def visit() -> State:
        return pages.serve(EntryRef(name), policy, lambda _: Rendered(body="page")).state

    visit()
    server.kill()
    for _ in range(3):
        assert visit() is State.STALE_METADATA_ERROR
    begun = time.monotonic()
    for _ in range(100):
        assert visit() is State.STALE_METADATA_ERROR
    # Each of them by itself would take the half second for which a question is repeated.
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize(
    "keepalive", [(), ("--keepalive-interval", "2s", "--keepalive-timeout", "2s")], ids=["kept", "reaped"]
)
def it_answers_the_first_call_after_a_freeze(
    new_server: Callable[..., Server],
    new_worker: Callable[[str, str], Worker],
    name: str,
    keepalive: tuple[str, ...],
) -> None:
    """As a Lambda is frozen between its invocations. Meanwhile a coordinator may have closed the connection, or not."""
    server = new_server(*keepalive)
    workers = [new_worker(server.address, f"{name}-{number}") for number in range(20)]
    kinds = ("lookup", "acquire", "invalidate", "data", "page")
    for number, worker in enumerate(workers):
        worker.tell(do="lookup", key=f"{name}-{number}")
    assert [worker.hear() for worker in workers] == ["MissingPage"] * 20
    for worker in workers:
        os.kill(worker.process.pid, signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    for worker in workers:
        os.kill(worker.process.pid, signal.SIGCONT)
    for number, worker in enumerate(workers):
        worker.tell(do=kinds[number % len(kinds)], key=f"{name}-{number}")
    answers = [worker.hear() for worker in workers]
    assert answers[0::5] == ["MissingPage"] * 4
    assert answers[1::5] == ["Granted"] * 4
    assert all(isinstance(answer, str) and answer for answer in answers[2::5]), answers[2::5]
    assert [answer["fetch"] for answer in answers[3::5]] == [1] * 4
    # Through the coordinator: neither `bypass` nor `stale-metadata-error`.
    assert [state for state, _ in answers[4::5]] == ["miss"] * 4
