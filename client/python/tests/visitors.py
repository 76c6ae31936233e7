"""Visitors, tenants, purges and leases, which are kept apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from support.api import Api
from support.proxy import Proxy
from support.scripted import Scripted, missing, refused

from leasehold import (
    AsyncCoordinator,
    AsyncData,
    AsyncPages,
    Coordinator,
    Depth,
    EntryRef,
    LeaseholdError,
    NoCookies,
    OnlyCookies,
    PageRequest,
    Policy,
    Reason,
    Rendered,
    Rendering,
    RetryPolicy,
    Settings,
    State,
    Tag,
)
from leasehold._guard import ANSWER_SECONDS, FAILURES_TO_OPEN
from leasehold.v1 import coordinator_pb2 as pb

WAIT_SECONDS = 30.0
BLOCKING = Policy.blocking(60)
SWR = Policy.stale_while_revalidate(60, 300)
PAGE = pb.Page(generation=7, metadata=pb.PageMetadata(status=200), inline=b'"kept"')
STALE_AT_ONCE = Policy.blocking(0, stale_if_error_seconds=600)


def rendering(body: str, *tags: str) -> Callable[[Rendering], Rendered]:
    return lambda _: Rendered(body=body, tags=tags)


def granted(_request: object, _context: object) -> pb.AcquireLeaseResponse:
    lasting = Duration(seconds=60)
    grant = pb.LeaseGrant(generation=7, remaining=lasting, renewable_for=lasting)
    return pb.AcquireLeaseResponse(granted=grant)


def released(_request: object, _context: object) -> pb.ReleaseLeaseResponse:
    return pb.ReleaseLeaseResponse(released=pb.LeaseReleased())


def requests(scripted: Scripted, kind: type) -> list[Any]:
    return [request for request in scripted.requests if isinstance(request, kind)]


@pytest.mark.parametrize("policy", [BLOCKING, SWR], ids=["blocking", "swr"])
@pytest.mark.parametrize(
    ("request_", "is_personal"),
    [
        ({"cookies": [("sid", "1")]}, True),
        ({"headers": {" Authorization ": ["Bearer a"]}}, True),
        ({"headers": {"authorization": [" "]}}, False),
        ({"headers": {"accept": ["*/*"]}}, False),
        ({"headers": {"x-api-key": ["a"]}, "ignore_credentials": True}, False),
        ({"cookies": [("sid", "1")], "cookie_variance": NoCookies()}, False),
        ({"cookies": [("sid", "1")], "cookie_variance": OnlyCookies(("lang",))}, False),
        ({"cookies": [("lang", "de")], "cookie_variance": OnlyCookies((" lang",))}, True),
    ],
)
def it_lets_no_shared_cache_keep_a_page_of_one_visitor(
    api: Api, coordinator: Coordinator, name: str, policy: Policy, request_: Any, is_personal: bool
) -> None:
    pages, entry = api.pages(coordinator), EntryRef(PageRequest(f"/{name}", **request_))
    for state in (State.MISS, State.HIT):
        response = pages.serve(entry, policy, rendering("page"))
        assert response.state is state
        assert (response.header("cache-control") == "private, no-store") == is_personal


@pytest.mark.parametrize("header", ["x-tenant-id", " X-FaceTheory-Tenant"])
def it_refuses_visitors_of_a_tenant_while_the_coordinator_is_down_too(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, header: str
) -> None:
    pages, request = api.pages(connect(wire.address)), PageRequest(f"/{name}", headers={header: ["acme"]})
    wire.cut()
    for tenant in ("", " "):
        with pytest.raises(LeaseholdError) as refusal:
            pages.serve(EntryRef(request, tenant=tenant), BLOCKING, rendering("page"))
        assert refusal.value.reason is Reason.TENANT_BOUNDARY
    declared = pages.serve(EntryRef(request, tenant="acme"), BLOCKING, rendering("page"))
    assert declared.state is State.BYPASS


def it_tells_names_apart_as_the_coordinator_does(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str
) -> None:
    pages = api.pages(connect(wire.address))

    def entry(lang: str, key: str) -> EntryRef:
        request = PageRequest(
            f"/{name}",
            headers={" X-Api-Key ": [key]},
            cookies=[("lang", lang)],
            cookie_variance=OnlyCookies((" lang",)),
        )
        return EntryRef(request, tenant="acme")

    assert pages.serve(entry("de", "a"), BLOCKING, rendering("mine")).state is State.MISS
    wire.cut()
    assert pages.serve(entry("de", "a"), BLOCKING, rendering("new")).state is State.STALE_METADATA_ERROR
    assert pages.serve(entry("en", "a"), BLOCKING, rendering("new")).state is State.BYPASS
    assert pages.serve(entry("de", "b"), BLOCKING, rendering("new")).state is State.BYPASS


@pytest.mark.parametrize("depth", [Depth.SOFT, Depth.HARD])
def it_calls_no_page_fresh_that_was_invalidated_while_it_was_rendered(
    api: Api,
    wire: Proxy,
    connect: Callable[..., Coordinator],
    coordinator: Coordinator,
    name: str,
    depth: Depth,
) -> None:
    pages, entry = api.pages(connect(wire.address)), EntryRef(name)
    policy = Policy.stale_while_revalidate(0, 0)
    pages.serve(entry, policy, rendering("old", name))

    def render(_: Rendering) -> Rendered:
        coordinator.invalidate(Tag(name), depth=depth)
        return Rendered(body="late", tags=(name,))

    late = pages.serve(entry, policy, render)
    assert (late.body, late.state) == (b"late", State.STALE if depth is Depth.SOFT else State.BYPASS)
    detail = "hit; ttl=-1; detail=invalidated" if depth is Depth.SOFT else "fwd=bypass; detail=purged"
    assert late.header("cache-status") == f"leasehold; {detail}"
    wire.cut()
    after = pages.serve(entry, policy, rendering("new"))
    assert after.body == (b"old" if depth is Depth.SOFT else b"new")


@pytest.mark.parametrize("depth", [Depth.SOFT, Depth.HARD])
def it_forgets_what_it_invalidates_and_what_it_asked_for_before(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, depth: Depth
) -> None:
    pages = api.pages(connect(wire.address))
    known, asked = EntryRef(name), EntryRef(f"{name}-asked")
    pages.serve(known, BLOCKING, rendering("old", name))
    entered, gate = threading.Event(), threading.Event()

    def render(_: Rendering) -> Rendered:
        entered.set()
        assert gate.wait(WAIT_SECONDS)
        return Rendered(body="old")

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(pages.serve, asked, BLOCKING, render)
        assert entered.wait(WAIT_SECONDS)
        pages.invalidate(Tag(name), depth=depth)
        gate.set()
        call.result(WAIT_SECONDS)
    wire.cut()
    for entry in (known, asked):
        assert pages.serve(entry, BLOCKING, rendering("new")).state is State.BYPASS


def it_forgets_what_was_answered_while_it_invalidated(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    page = pb.Page(generation=7, metadata=pb.PageMetadata(status=200), inline=b'"old"')
    scripted = script(lambda _request, _context: pb.LookupResponse(fresh=pb.FreshPage(page=page)))
    entered, gate = threading.Event(), threading.Event()

    def invalidated(_request: object, _context: object) -> pb.InvalidateResponse:
        entered.set()
        assert gate.wait(WAIT_SECONDS)
        return pb.InvalidateResponse(consistency_token="c1-7")

    scripted.by_method.update(Invalidate=invalidated)
    coordinator = connect(scripted.address)
    pages, data = api.pages(coordinator), api.data(coordinator)
    unavailable = refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")

    def page_is_forgotten() -> bool:
        return pages.serve(EntryRef("k"), BLOCKING, rendering("new")).state is State.BYPASS

    def value_is_forgotten() -> bool:
        return bool(data.with_revalidate("k", 600, lambda: "new") == "new")

    for invalidate, is_forgotten in (
        (lambda: pages.invalidate(Tag("t")), page_is_forgotten),
        (lambda: data.invalidate("k"), value_is_forgotten),
        (lambda: data.invalidate_all(), value_is_forgotten),
    ):
        scripted.by_method.pop("Lookup", None)
        entered.clear()
        gate.clear()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(invalidate)
            assert entered.wait(WAIT_SECONDS)
            assert not page_is_forgotten()
            assert not value_is_forgotten()
            gate.set()
            call.result(WAIT_SECONDS)
        scripted.by_method.update(Lookup=unavailable)
        assert is_forgotten()


def it_keeps_no_lease_of_what_cannot_be_committed(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(missing)
    gone = threading.Event()

    def release(request: object, context: object) -> pb.ReleaseLeaseResponse:
        gone.set()
        return released(request, context)

    scripted.by_method.update(
        AcquireLease=granted,
        CommitPointer=refused(grpc.StatusCode.FAILED_PRECONDITION, "OBJECT_CONFLICT"),
        ReleaseLease=release,
    )
    pages = api.pages(connect(scripted.address))
    assert pages.serve(EntryRef("k"), BLOCKING, rendering("page")).state is State.BYPASS
    assert gone.wait(WAIT_SECONDS)
    assert [request.HasField("failure") for request in requests(scripted, pb.ReleaseLeaseRequest)] == [False]


@pytest.mark.parametrize(
    ("reason", "is_given_back"), [("STORE_UNAVAILABLE", True), ("OUTCOME_UNKNOWN", False)]
)
@pytest.mark.parametrize("kind", ["page", "value"])
def it_gives_back_the_lease_of_what_was_surely_not_committed(
    api: Api,
    script: Callable[..., Scripted],
    connect: Callable[..., Coordinator],
    reason: str,
    is_given_back: bool,
    kind: str,
) -> None:
    scripted = script(missing)
    scripted.by_method.update(
        AcquireLease=granted,
        CommitPointer=refused(grpc.StatusCode.UNAVAILABLE, reason),
        ReleaseLease=released,
    )
    coordinator = connect(scripted.address)
    if kind == "page":
        assert api.pages(coordinator).serve(EntryRef("k"), BLOCKING, rendering("page")).body == b"page"
    else:
        assert api.data(coordinator).with_revalidate("k", 60, lambda: "value") == "value"
    # It waits for what goes on in the background.
    coordinator.close()
    releases = requests(scripted, pb.ReleaseLeaseRequest)
    assert [request.HasField("failure") for request in releases] == ([False] if is_given_back else [])


@pytest.mark.parametrize("kind", ["page", "value"])
def it_lets_nobody_take_turns_for_what_is_refused_for_good(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator], kind: str
) -> None:
    scripted = script(missing)
    scripted.by_method.update(
        AcquireLease=granted,
        CommitPointer=refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="metadata.tags"),
        ReleaseLease=released,
    )
    coordinator = connect(scripted.address)
    pages, data = api.pages(coordinator), api.data(coordinator)
    for _ in range(3):
        if kind == "page":
            assert pages.serve(EntryRef("k"), BLOCKING, rendering("page")).state is State.BYPASS
        else:
            assert data.with_revalidate("k", 60, lambda: "value") == "value"
    assert len(requests(scripted, pb.AcquireLeaseRequest)) == 1


def it_renews_the_lease_while_the_page_is_on_its_way(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted, renewed = script(missing), threading.Event()
    soon = Duration(nanos=300_000_000)

    def grant(_request: object, _context: object) -> pb.AcquireLeaseResponse:
        lease = pb.LeaseGrant(generation=7, remaining=soon, renewable_for=Duration(seconds=60))
        return pb.AcquireLeaseResponse(granted=lease)

    def renew(_request: object, _context: object) -> pb.RenewLeaseResponse:
        renewed.set()
        return pb.RenewLeaseResponse(lost=pb.LeaseLost())

    def commit(request: object, context: grpc.ServicerContext) -> pb.CommitPointerResponse:
        # Its render took no time.
        assert renewed.wait(WAIT_SECONDS)
        return pb.CommitPointerResponse(committed=pb.CommitApplied(etag='"e"'))

    scripted.by_method.update(AcquireLease=grant, RenewLease=renew, CommitPointer=commit)
    pages = api.pages(connect(scripted.address))
    assert pages.serve(EntryRef("k"), BLOCKING, rendering("page")).state is State.MISS


def it_takes_commits_that_take_too_long_for_no_outage(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted, at_once = script(missing), FAILURES_TO_OPEN
    together = threading.Barrier(at_once)
    unavailable, begun = refused(grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"), iter(range(10**6))

    def commit(request: object, context: grpc.ServicerContext) -> Any:
        if next(begun) < at_once:
            together.wait(WAIT_SECONDS)
        return unavailable(request, context)

    scripted.by_method.update(AcquireLease=granted, CommitPointer=commit)
    coordinator = connect(scripted.address, Settings(retry=RetryPolicy(max_attempts=1)))
    pages = api.pages(coordinator)
    with ThreadPoolExecutor(at_once) as pool:
        calls = [
            pool.submit(pages.serve, EntryRef(f"{n}"), BLOCKING, rendering("page")) for n in range(at_once)
        ]
        assert [call.result(WAIT_SECONDS).body for call in calls] == [b"page"] * at_once
    scripted.by_method.update(
        Lookup=lambda _request, _context: pb.LookupResponse(fresh=pb.FreshPage(page=PAGE))
    )
    assert pages.serve(EntryRef("k"), BLOCKING, rendering("new")).state is State.HIT


def it_gives_a_large_page_more_time(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(missing)
    left: list[float] = []

    def commit(request: object, context: grpc.ServicerContext) -> pb.CommitPointerResponse:
        left.append(context.time_remaining())
        return pb.CommitPointerResponse(committed=pb.CommitApplied(etag='"e"'))

    scripted.by_method.update(AcquireLease=granted, CommitPointer=commit)
    pages = api.pages(connect(scripted.address))
    assert pages.serve(EntryRef("k"), BLOCKING, rendering("x" * (2 << 20))).state is State.MISS
    assert left[0] > ANSWER_SECONDS + 1


@pytest.mark.parametrize("kind", ["page", "value"])
def it_asks_for_no_lease_that_nobody_is_granted_at_each_stale_hit(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator], kind: str
) -> None:
    stale = pb.StalePage(page=PAGE, stale_while_revalidate_for=Duration(seconds=60))
    scripted = script(lambda _request, _context: pb.LookupResponse(stale=stale))
    pause = pb.BackingOff(remaining=Duration(seconds=60), failures=1, reason="no")
    told = threading.Event()

    def backing_off(_request: object, _context: object) -> pb.AcquireLeaseResponse:
        told.set()
        return pb.AcquireLeaseResponse(backing_off=pause)

    scripted.by_method.update(AcquireLease=backing_off)
    coordinator = connect(scripted.address)
    pages, data = api.pages(coordinator), api.data(coordinator)

    def visit() -> None:
        if kind == "page":
            assert pages.serve(EntryRef("k"), SWR, rendering("new")).state is State.STALE
        else:
            assert data.with_revalidate("k", 60, lambda: "new") == "kept"

    visit()
    assert told.wait(WAIT_SECONDS)
    for _ in range(5):
        visit()
    assert len(requests(scripted, pb.AcquireLeaseRequest)) == 1
    rendered = pb.Regeneration(owner="another", generation=8, remaining=Duration(seconds=60))
    scripted.by_method.update(
        Lookup=lambda _request, _context: pb.LookupResponse(stale=stale, regeneration=rendered)
    )
    other = connect(scripted.address)
    pages, data = api.pages(other), api.data(other)
    visit()
    other.close()
    assert len(requests(scripted, pb.AcquireLeaseRequest)) == 1


def it_wakes_those_who_wait_when_it_is_closed(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(missing)
    asked, gate = threading.Event(), threading.Event()

    def acquire(_request: object, _context: object) -> pb.AcquireLeaseResponse:
        asked.set()
        gate.wait(WAIT_SECONDS)
        return pb.AcquireLeaseResponse(ended=pb.LeaseEnded())

    scripted.by_method.update(AcquireLease=acquire)
    coordinator = connect(scripted.address)
    pages = api.pages(coordinator)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(pages.serve, EntryRef("k"), Policy.blocking(60), rendering("page"))
        assert asked.wait(WAIT_SECONDS)
        coordinator.close()
        assert call.result(WAIT_SECONDS / 3).state is State.BYPASS
        gate.set()


@pytest.mark.parametrize("kind", ["page", "value"])
def it_leaves_no_lease_behind_where_a_visitor_goes_away(script: Callable[..., Scripted], kind: str) -> None:
    scripted = script(missing)
    asked, answers, given_back = threading.Event(), threading.Event(), threading.Event()

    def acquire(request: object, context: object) -> pb.AcquireLeaseResponse:
        asked.set()
        assert answers.wait(WAIT_SECONDS)
        return granted(request, context)

    def release(request: object, context: object) -> pb.ReleaseLeaseResponse:
        given_back.set()
        return released(request, context)

    scripted.by_method.update(AcquireLease=acquire, ReleaseLease=release)

    async def visit() -> None:
        async with AsyncCoordinator(scripted.address) as coordinator:

            async def render(_: Rendering) -> Rendered:
                raise AssertionError

            async def fetch() -> str:
                raise AssertionError

            work: Any = AsyncData(coordinator).with_revalidate("k", 60, fetch)
            if kind == "page":
                work.close()
                work = AsyncPages(coordinator).serve(EntryRef("k"), BLOCKING, render)
            visitor = asyncio.create_task(work)
            assert await asyncio.to_thread(asked.wait, WAIT_SECONDS)
            visitor.cancel()
            with pytest.raises(asyncio.CancelledError):
                await visitor
            answers.set()
            assert await asyncio.to_thread(given_back.wait, WAIT_SECONDS / 3)

    asyncio.run(visit())
    ids = {request.request_id for request in requests(scripted, pb.AcquireLeaseRequest)}
    leases = {request.lease.request_id for request in requests(scripted, pb.ReleaseLeaseRequest)}
    assert ids == leases


def it_fetches_once_also_where_the_previous_value_is_not_to_be_had(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted, fetches = script(missing), []
    # Its body is asked for by a call that this coordinator does not have.
    previous = pb.StalePage(page=pb.Page(generation=6, body_too_large=True))

    def grant(request: object, context: object) -> pb.AcquireLeaseResponse:
        answer = granted(request, context)
        answer.granted.previous.CopyFrom(previous)
        return answer

    scripted.by_method.update(AcquireLease=grant, ReleaseLease=released)
    data = api.data(connect(scripted.address))

    def fetch() -> str:
        fetches.append(1)
        raise RuntimeError("the source is down")

    with pytest.raises(RuntimeError, match="the source is down"):
        data.with_revalidate("k", 60, fetch)
    assert fetches == [1]


def it_makes_nobody_wait_for_a_lease_to_be_given_back(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(missing)
    entered, gate = threading.Event(), threading.Event()

    def release(request: object, context: object) -> pb.ReleaseLeaseResponse:
        entered.set()
        assert gate.wait(WAIT_SECONDS)
        return released(request, context)

    scripted.by_method.update(AcquireLease=granted, ReleaseLease=release)
    pages = api.pages(connect(scripted.address))
    over = threading.Event()

    def visit() -> None:
        mine = Rendered(body="mine", is_kept=False)
        assert pages.serve(EntryRef("k"), BLOCKING, lambda _: mine).body == b"mine"
        over.set()

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert entered.wait(WAIT_SECONDS)
    # Before the coordinator says a word, and before an attempt is given up.
    assert over.wait(ANSWER_SECONDS / 2)
    gate.set()
    visitor.join()


def it_gives_a_commit_no_more_time_than_any_answer(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(missing)
    left: list[float] = []

    def commit(request: object, context: grpc.ServicerContext) -> Any:
        left.append(context.time_remaining())
        return refused(grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")(request, context)

    scripted.by_method.update(AcquireLease=granted, CommitPointer=commit)
    pages = api.pages(connect(scripted.address))
    assert pages.serve(EntryRef("k"), BLOCKING, rendering("page")).body == b"page"
    assert left
    assert max(left) < ANSWER_SECONDS + 1


@pytest.mark.parametrize("late", ["superseded", "fenced"])
@pytest.mark.parametrize("then", ["unavailable", "corrupt", "missing", "older", "unreadable"])
def it_serves_what_it_rendered_where_its_successor_is_not_to_be_had(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator], late: str, then: str
) -> None:
    older = pb.Page(generation=5, metadata=pb.PageMetadata(status=200), inline=b"older")
    unreadable = pb.Page(generation=8, metadata=pb.PageMetadata(status=200), body_too_large=True)
    answers = {
        "unavailable": refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        "corrupt": refused(grpc.StatusCode.DATA_LOSS, "STORED_DATA_CORRUPT"),
        "missing": missing,
        "older": lambda _request, _context: pb.LookupResponse(stale=pb.StalePage(page=older)),
        # The body is asked for by a call that this coordinator does not have.
        "unreadable": lambda _request, _context: pb.LookupResponse(fresh=pb.FreshPage(page=unreadable)),
    }
    scripted = script(missing, answers[then])
    outcome: dict[str, Any] = {
        "superseded": pb.CommitSuperseded(current_generation=8),
        "fenced": pb.CommitFenced(latest_generation=8),
    }
    scripted.by_method.update(
        AcquireLease=granted,
        CommitPointer=lambda _request, _context: pb.CommitPointerResponse(**{late: outcome[late]}),
        ReleaseLease=released,
    )
    pages, renders = api.pages(connect(scripted.address)), []

    def render(_: Rendering) -> Rendered:
        renders.append(1)
        return Rendered(body="rendered")

    response = pages.serve(EntryRef("k"), BLOCKING, render)
    assert (response.state, response.body) == (State.BYPASS, b"rendered")
    assert response.header("cache-status") == "leasehold; fwd=bypass; detail=overtaken"
    assert len(renders) == 1


def it_takes_what_the_coordinator_cannot_tell_of_one_page_for_no_outage(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    page = pb.Page(
        generation=7,
        metadata=pb.PageMetadata(status=200, revalidate=Duration(seconds=60)),
        inline=b'"kept"',
        age=Duration(seconds=20, nanos=500_000_000),
    )
    scripted = script(refused(grpc.StatusCode.DATA_LOSS, "STORED_DATA_CORRUPT"))
    coordinator = connect(scripted.address)
    pages, data = api.pages(coordinator), api.data(coordinator)
    for _ in range(5):
        assert pages.serve(EntryRef("k"), BLOCKING, rendering("new")).state is State.BYPASS
        assert data.with_revalidate("k", 60, lambda: "new") == "new"
    scripted.by_method.update(
        Lookup=lambda _request, _context: pb.LookupResponse(fresh=pb.FreshPage(page=page))
    )
    hit = pages.serve(EntryRef("k"), BLOCKING, rendering("new"), if_none_match="*")
    assert (hit.state, hit.header("age")) == (State.HIT, "20")
    assert data.with_revalidate("k", 60, lambda: "new") == "kept"
