"""Data: one fetch for the fleet, and never an error of the coordinator's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from support.api import Api
from support.proxy import Proxy
from support.scripted import Scripted, missing, refused
from support.server import Server
from support.worker import Worker

from leasehold import (
    BodyDelivery,
    Coordinator,
    EntryRef,
    FreshPage,
    Inline,
    LeaseholdError,
    MissingPage,
    PageRequest,
    RegenerationPaused,
    RetryPolicy,
    Settings,
)
from leasehold.v1 import coordinator_pb2 as pb

WAIT_SECONDS = 30.0


class Source:
    """What is fetched, and how often."""

    def __init__(self) -> None:
        self.fetches = 0
        self.failure: Exception | None = None
        self.entered = threading.Semaphore(0)
        """Released by each fetch as it begins."""
        self.gate = threading.Event()
        """Fetches wait for it."""
        self.gate.set()
        self._lock = threading.Lock()

    def fetch(self) -> dict[str, Any]:
        with self._lock:
            self.fetches += 1
            number = self.fetches
        self.entered.release()
        assert self.gate.wait(WAIT_SECONDS)
        if self.failure is not None:
            raise self.failure
        return {"number": number}


@pytest.fixture
def source() -> Source:
    return Source()


def it_fetches_once_in_all_processes(
    server: Server, new_worker: Callable[[str, str], Worker], name: str
) -> None:
    workers = [new_worker(server.address, f"worker-{number}") for number in range(4)]
    for worker in workers:
        worker.tell(do="data", key=name)
    values = [worker.hear() for worker in workers]
    assert values[0]["fetch"] == 1
    assert values.count(values[0]) == len(workers)
    assert sum(worker.ask(do="fetches") for worker in workers) == 1


def it_fetches_anew_after_an_invalidation_by_another_process(
    server: Server, new_worker: Callable[[str, str], Worker], name: str
) -> None:
    one, other = new_worker(server.address, "one"), new_worker(server.address, "other")
    first = one.ask(do="data", key=name)
    assert other.ask(do="data", key=name) == first
    other.ask(do="invalidate data", key=name)
    # Whoever invalidated sees it at once.
    second = other.ask(do="data", key=name)
    assert second == {"by": "other", "fetch": 1}


def it_lets_all_wait_for_one_fetch(api: Api, coordinator: Coordinator, name: str, source: Source) -> None:
    data = api.data(coordinator)
    source.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(data.with_revalidate, name, 60, source.fetch) for _ in range(8)]
        assert source.entered.acquire(timeout=WAIT_SECONDS)
        source.gate.set()
        assert [call.result(WAIT_SECONDS) for call in calls] == [{"number": 1}] * 8
    assert source.fetches == 1


def it_answers_stale_and_refreshes_in_the_background(
    api: Api, coordinator: Coordinator, name: str, source: Source
) -> None:
    data = api.data(coordinator)
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 1}
    source.gate.clear()
    # While the refresh goes on, and is the only one, everybody is answered.
    assert [data.with_revalidate(name, 0, source.fetch) for _ in range(5)] == [{"number": 1}] * 5
    assert source.entered.acquire(timeout=WAIT_SECONDS)
    assert source.entered.acquire(timeout=WAIT_SECONDS)
    source.gate.set()
    coordinator.close()
    assert source.fetches == 2


def it_reports_a_failed_refresh_in_the_background(
    api: Api, coordinator: Coordinator, name: str, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[tuple[str, Exception]] = []
    told = threading.Event()

    def report(key: str, error: Exception) -> None:
        reported.append((key, error))
        told.set()

    data = api.data(coordinator, on_refresh_error=report)
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 1}
    source.failure = RuntimeError("the source is down")
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 1}
    assert told.wait(WAIT_SECONDS)
    assert reported == [(name, source.failure)]
    expected = f"data not refreshed: namespace=default key={name!r} error=RuntimeError: the source is down"
    assert caplog.messages == [expected]
    # It pauses, for everybody; what is there is answered on.
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 1}
    assert source.fetches == 2


def it_survives_a_hook_that_fails(api: Api, coordinator: Coordinator, name: str, source: Source) -> None:
    told = threading.Event()

    def report(_key: str, _error: Exception) -> None:
        told.set()
        raise RuntimeError("the hook is broken")

    data = api.data(coordinator, on_refresh_error=report)
    data.with_revalidate(name, 0, source.fetch)
    source.failure = RuntimeError("the source is down")
    data.with_revalidate(name, 0, source.fetch)
    assert told.wait(WAIT_SECONDS)
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 1}


def it_waits_for_a_fetch_past_the_stale_bound(
    api: Api, coordinator: Coordinator, name: str, source: Source
) -> None:
    data = api.data(coordinator, max_stale_seconds=0)
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 1}
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 2}


def it_raises_what_the_fetch_raises_and_then_pauses(
    api: Api, coordinator: Coordinator, name: str, source: Source
) -> None:
    data = api.data(coordinator)
    source.failure = RuntimeError("the source is down")
    with pytest.raises(RuntimeError, match="the source is down"):
        data.with_revalidate(name, 60, source.fetch)
    with pytest.raises(RegenerationPaused) as paused:
        data.with_revalidate(name, 60, source.fetch)
    assert "the source is down" in paused.value.failure
    assert paused.value.failures == 1
    assert 0 < paused.value.retry_after_seconds <= 60
    assert source.fetches == 1


def it_refuses_what_is_not_json(api: Api, coordinator: Coordinator, name: str) -> None:
    data = api.data(coordinator)
    with pytest.raises(TypeError):
        data.with_revalidate(name, 60, object)
    with pytest.raises(ValueError, match="JSON"):
        data.with_revalidate(f"{name}-nan", 60, lambda: float("nan"))


def it_answers_what_is_left_after_json_also_to_whoever_fetched(
    api: Api, coordinator: Coordinator, name: str
) -> None:
    data = api.data(coordinator)
    value: Any = data.with_revalidate(name, 60, lambda: (1, "ü"))
    assert value == [1, "ü"]


@pytest.mark.parametrize("key", ["a b", "a/b?c=d&e#f", "schlüssel", "☃" * 300, "%2F", "."])
def it_takes_any_text_for_a_key(
    api: Api, coordinator: Coordinator, name: str, source: Source, key: str
) -> None:
    data = api.data(coordinator)
    key = f"{name} {key}"
    assert data.with_revalidate(key, 60, source.fetch) == {"number": 1}
    assert data.with_revalidate(key, 60, source.fetch) == {"number": 1}
    data.invalidate(key)
    assert data.with_revalidate(key, 60, source.fetch) == {"number": 2}


def it_passes_on_what_the_coordinator_refuses(api: Api, coordinator: Coordinator, source: Source) -> None:
    with pytest.raises(LeaseholdError) as refused:
        api.data(coordinator).with_revalidate("k" * 5000, 60, source.fetch)
    assert not refused.value.is_retryable
    assert source.fetches == 0


def it_shows_nobody_a_value_that_was_invalidated_while_it_was_fetched(
    api: Api, coordinator: Coordinator, name: str, source: Source
) -> None:
    data = api.data(coordinator)
    source.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(data.with_revalidate, name, 60, source.fetch)
        assert source.entered.acquire(timeout=WAIT_SECONDS)
        data.invalidate(name)
        source.gate.set()
        assert call.result(WAIT_SECONDS) == {"number": 2}
    assert data.with_revalidate(name, 60, source.fetch) == {"number": 2}


def it_invalidates_while_another_invalidation_hangs_and_presents_the_later_ones_token(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    asked, answers = threading.Event(), threading.Event()
    tokens = iter(["9", "10"])

    def invalidated(request: Any, _context: Any) -> Message:
        token = next(tokens)
        if request.scopes[0].key.endswith("first"):
            asked.set()
            assert answers.wait(WAIT_SECONDS)
        return pb.InvalidateResponse(consistency_token=token)

    scripted = script(missing)
    scripted.by_method["Invalidate"] = invalidated
    scripted.by_method["AcquireLease"] = refused(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="entry.key"
    )
    data = api.data(connect(scripted.address))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(data.invalidate, "first")
        assert asked.wait(WAIT_SECONDS)
        assert data.invalidate("second") == "10"
        answers.set()
        assert first.result(WAIT_SECONDS) == "9"
    with pytest.raises(LeaseholdError):
        data.with_revalidate("k", 60, dict)
    lookups = [request for request in scripted.requests if isinstance(request, pb.LookupRequest)]
    assert {request.consistency_token for request in lookups} == {"10"}


def it_invalidates_one_key(api: Api, coordinator: Coordinator, name: str, source: Source) -> None:
    data = api.data(coordinator)
    for key in ("a", "b"):
        data.with_revalidate(name + key, 60, source.fetch)
    data.invalidate(name + "a")
    assert data.with_revalidate(name + "b", 60, source.fetch) == {"number": 2}
    assert data.with_revalidate(name + "a", 60, source.fetch) == {"number": 3}


def it_invalidates_all_of_its_namespace_and_nothing_else(
    api: Api, coordinator: Coordinator, name: str, source: Source
) -> None:
    mine, other = api.data(coordinator, namespace=name), api.data(coordinator, namespace=f"{name}-other")
    elsewhere = api.data(coordinator, namespace=name, tenant="elsewhere")
    for data in (mine, other, elsewhere):
        data.with_revalidate("key", 60, source.fetch)
    mine.invalidate_all()
    assert other.with_revalidate("key", 60, source.fetch) == {"number": 2}
    assert elsewhere.with_revalidate("key", 60, source.fetch) == {"number": 3}
    assert mine.with_revalidate("key", 60, source.fetch) == {"number": 4}


def it_answers_its_last_copy_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, source: Source
) -> None:
    data = api.data(connect(wire.address))
    data.with_revalidate(name, 60, source.fetch)
    wire.cut()
    for _ in range(5):
        assert data.with_revalidate(name, 60, source.fetch) == {"number": 1}
    assert source.fetches == 1


def it_fetches_without_keeping_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, source: Source
) -> None:
    wire.cut()
    data = api.data(connect(wire.address))
    assert data.with_revalidate(name, 60, source.fetch) == {"number": 1}
    assert data.with_revalidate(name, 60, source.fetch) == {"number": 2}


def it_answers_no_copy_past_the_bound_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, source: Source
) -> None:
    data = api.data(connect(wire.address), max_stale_seconds=0)
    data.with_revalidate(name, 0, source.fetch)
    wire.cut()
    assert data.with_revalidate(name, 0, source.fetch) == {"number": 2}


def it_answers_no_copy_past_its_time_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, source: Source
) -> None:
    data = api.data(connect(wire.address), kept_seconds=0)
    data.with_revalidate(name, 60, source.fetch)
    wire.cut()
    assert data.with_revalidate(name, 60, source.fetch) == {"number": 2}


def it_forgets_its_copy_of_what_it_invalidates_also_when_the_coordinator_is_down(
    api: Api, wire: Proxy, server: Server, name: str, source: Source, connect: Callable[..., Coordinator]
) -> None:
    settings = Settings(retry=RetryPolicy(max_attempts=1))
    data = api.data(connect(wire.address, settings))
    data.with_revalidate(name, 60, source.fetch)
    wire.cut()
    with pytest.raises(LeaseholdError):
        data.invalidate(name)
    assert data.with_revalidate(name, 60, source.fetch) == {"number": 2}


def it_goes_on_when_the_store_no_longer_knows_its_consistency_token(
    api: Api,
    new_server: Callable[..., Server],
    connect: Callable[..., Coordinator],
    name: str,
    source: Source,
) -> None:
    first, second = new_server(), new_server()
    way = Proxy(first.port)
    data = api.data(connect(way.address))
    data.with_revalidate(name, 60, source.fetch)
    data.invalidate(name)
    way.cut()
    way.target = second.port
    way.mend()
    values = {data.with_revalidate(name, 60, source.fetch)["number"] for _ in range(3)}
    way.cut()
    assert len(values) == 1


def it_names_what_it_stores_as_every_language_does(
    api: Api, coordinator: Coordinator, name: str, source: Source
) -> None:
    api.data(coordinator, namespace=name).with_revalidate("a b/ü?!'()*~", 60, source.fetch)
    stored = coordinator.lookup(
        EntryRef(f"default::/~data/{name}/a%20b%2F%C3%BC%3F!'()*~"), body=BodyDelivery.INLINE
    ).outcome
    assert isinstance(stored, FreshPage)
    assert stored.page.body == Inline(b'{"number":1}')
    assert stored.page.metadata.content_type == "application/json"
    assert stored.page.metadata.tags == (f"~data/{name}",)


def it_keeps_data_apart_from_pages(api: Api, coordinator: Coordinator, name: str, source: Source) -> None:
    data = api.data(coordinator, namespace=name)
    data.with_revalidate("key", 60, source.fetch)
    for route in (f"/~data/{name}/key", f"~data/{name}/key", "/key", f"/~data/{name}"):
        page = coordinator.lookup(EntryRef(PageRequest(route)))
        assert isinstance(page.outcome, MissingPage)


def it_sends_values_of_more_than_a_message(api: Api, coordinator: Coordinator, name: str) -> None:
    data = api.data(coordinator)
    large = "x" * (5 << 20)
    assert data.with_revalidate(name, 60, lambda: large) == large
    other = api.data(coordinator)
    assert other.with_revalidate(name, 60, lambda: "fetched again") == large
