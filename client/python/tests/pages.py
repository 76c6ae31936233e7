"""Pages: each policy in each state, with the headers that this gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from support.api import Api
from support.proxy import Proxy
from support.server import Server

from leasehold import (
    BodyDelivery,
    Coordinator,
    Depth,
    EntryRef,
    FreshPage,
    Granted,
    Inline,
    Key,
    LeaseholdError,
    MissingPage,
    NewPage,
    NoCookies,
    OnContention,
    OnFailure,
    PageMetadata,
    PageRequest,
    Pages,
    Policy,
    Reason,
    RegenerationPaused,
    Rendered,
    Rendering,
    Response,
    State,
    Tag,
    _blocking,
)

WAIT_SECONDS = 30.0

BLOCKING = Policy.blocking(60, wait_seconds=0.2)
BLOCKING_SERVES_STALE = Policy.blocking(60, wait_seconds=0.2, on_contention=OnContention.SERVE_STALE)
BLOCKING_ERRS = Policy.blocking(60, wait_seconds=0.2, on_failure=OnFailure.ERROR)
BLOCKING_BOUNDED = Policy.blocking(0, wait_seconds=0.2, stale_if_error_seconds=0)
SWR = Policy.stale_while_revalidate(60, 300, wait_seconds=0.2)
SWR_ERRS = Policy.stale_while_revalidate(60, 300, wait_seconds=0.2, on_failure=OnFailure.ERROR)
SWR_SPENT = Policy.stale_while_revalidate(
    0, 0, wait_seconds=0.2, stale_if_error_seconds=0, on_contention=OnContention.SERVE_STALE
)
SWR_OVER = Policy.stale_while_revalidate(0, 0, wait_seconds=0.2, stale_if_error_seconds=600)

POLICIES = {
    "blocking": BLOCKING,
    "blocking-serves-stale": BLOCKING_SERVES_STALE,
    "blocking-errs": BLOCKING_ERRS,
    "blocking-bounded": BLOCKING_BOUNDED,
    "swr": SWR,
    "swr-errs": SWR_ERRS,
    "swr-spent": SWR_SPENT,
    "swr-over": SWR_OVER,
}

BLOCKING_CONTROL = "public, max-age=0, s-maxage=0, stale-if-error=60, must-revalidate"
SWR_CONTROL = "s-maxage=60, stale-while-revalidate=300"


class RenderFailed(Exception):
    """What the table's renders raise."""


class View:
    """What is rendered, and how often."""

    def __init__(self) -> None:
        self.renders = 0
        self.failure: Exception | None = None
        self.answer: Rendered | None = None
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[Rendering] = []
        self._lock = threading.Lock()

    def render(self, rendering: Rendering) -> Rendered:
        with self._lock:
            self.renders += 1
            number = self.renders
            self.seen.append(rendering)
        self.entered.release()
        assert self.gate.wait(WAIT_SECONDS)
        if self.failure is not None:
            raise self.failure
        return self.answer or Rendered(body=f"render {number}", tags=("pages",))


@pytest.fixture
def view() -> View:
    return View()


@dataclass
class Stage:
    """What a row of the table plays on."""

    pages: Pages
    other: Coordinator
    """Another worker's handle, whose way is never cut."""
    wire: Proxy
    entry: EntryRef
    policy: Policy
    view: View
    address: str

    def serve(self) -> Response:
        return self.pages.serve(self.entry, self.policy, self.view.render)

    def make_current(self) -> None:
        assert self.serve().state in (State.MISS, State.HIT)

    def make_stale(self) -> None:
        self.make_current()
        assert isinstance(self.entry.name, str)
        self.pages.invalidate(Key(self.entry.name))

    def hold(self) -> None:
        assert isinstance(self.other.acquire(self.entry, ttl_seconds=60), Granted)

    def fail(self) -> None:
        granted = self.other.acquire(self.entry)
        assert isinstance(granted, Granted)
        granted.lease.fail("the database is down")


def fresh(stage: Stage) -> None:
    stage.make_current()


def stale(stage: Stage) -> None:
    stage.make_stale()


def missing(_stage: Stage) -> None:
    pass


def held(stage: Stage) -> None:
    stage.hold()


def held_with_previous(stage: Stage) -> None:
    stage.make_stale()
    stage.hold()


def rendered_by_another(stage: Stage) -> None:
    """Between being asked for, and being rendered here."""
    another = Coordinator(stage.address)
    granted = another.acquire(stage.entry, ttl_seconds=60)
    assert isinstance(granted, Granted)
    entries = stage.pages._core._entries
    acquire = entries.acquire

    async def meanwhile(*asked: Any) -> Any:
        granted.lease.commit(NewPage("render of another", metadata=PageMetadata(revalidate_seconds=60)))
        another.close()
        return await acquire(*asked)

    entries.acquire = meanwhile  # type: ignore[assignment, method-assign]


def rendered_by_another_with_previous(stage: Stage) -> None:
    stage.make_stale()
    rendered_by_another(stage)


def backing_off(stage: Stage) -> None:
    stage.fail()


def backing_off_with_previous(stage: Stage) -> None:
    stage.make_stale()
    stage.fail()


def render_fails(stage: Stage) -> None:
    stage.view.failure = RenderFailed("no")


def render_fails_with_previous(stage: Stage) -> None:
    stage.make_stale()
    stage.view.failure = RenderFailed("no")


def coordinator_down(stage: Stage) -> None:
    stage.wire.cut()


def coordinator_down_with_copy(stage: Stage) -> None:
    stage.make_current()
    stage.wire.cut()


def coordinator_down_and_render_fails(stage: Stage) -> None:
    stage.wire.cut()
    stage.view.failure = RenderFailed("no")


def commit_lost(stage: Stage) -> None:
    render = stage.view.render

    def render_and_cut(rendering: Rendering) -> Rendered:
        rendered = render(rendering)
        stage.wire.cut()
        return rendered

    stage.view.render = render_and_cut  # type: ignore[method-assign]


@dataclass(frozen=True)
class Told:
    """How a page was come by, as its headers tell."""

    state: State
    cache_status: str


Expected = Told | type[Exception]

HIT = Told(State.HIT, "leasehold; hit; ttl=59")
MISS = Told(State.MISS, "leasehold; fwd=miss; stored")
AGAIN = Told(State.MISS, "leasehold; fwd=stale; stored")
WAIT = Told(State.WAIT_HIT, "leasehold; fwd=miss; collapsed")
NEWER = Told(State.WAIT_HIT, "leasehold; fwd=stale; collapsed")
STALE = Told(State.STALE, "leasehold; hit; ttl=-1")
WHILE_HELD = Told(State.STALE, "leasehold; hit; ttl=-1; detail=held")
IN_PAUSE = Told(State.STALE, "leasehold; hit; ttl=-1; detail=backing-off")
INSTEAD = Told(State.STALE, "leasehold; hit; ttl=-1; detail=render-failed")
KNOWN = Told(State.STALE_METADATA_ERROR, "leasehold; hit; ttl=-1; detail=unreachable")
UNKEPT = Told(State.BYPASS, "leasehold; fwd=bypass; detail=held")
ALONE = Told(State.BYPASS, "leasehold; fwd=bypass; detail=unreachable")
PAUSED = RegenerationPaused
FAILED = RenderFailed

# What each policy comes to in each state; the columns are POLICIES, in their order.
# fmt: off
TABLE: dict[Callable[[Stage], None], tuple[Expected, ...]] = {
    fresh:
        (HIT,        HIT,        HIT,        AGAIN,      HIT,        HIT,        AGAIN,      AGAIN),
    stale:
        (AGAIN,      AGAIN,      AGAIN,      AGAIN,      STALE,      STALE,      AGAIN,      AGAIN),
    missing:
        (MISS,       MISS,       MISS,       MISS,       MISS,       MISS,       MISS,       MISS),
    held:
        (UNKEPT,     UNKEPT,     UNKEPT,     UNKEPT,     UNKEPT,     UNKEPT,     UNKEPT,     UNKEPT),
    held_with_previous:
        (WHILE_HELD, WHILE_HELD, WHILE_HELD, WHILE_HELD, STALE,      STALE,      UNKEPT,     WHILE_HELD),
    rendered_by_another:
        (WAIT,       WAIT,       WAIT,       WAIT,       WAIT,       WAIT,       WAIT,       WAIT),
    rendered_by_another_with_previous:
        (NEWER,      HIT,        NEWER,      NEWER,      STALE,      STALE,      NEWER,      NEWER),
    backing_off:
        (PAUSED,     PAUSED,     PAUSED,     PAUSED,     PAUSED,     PAUSED,     PAUSED,     PAUSED),
    backing_off_with_previous:
        (IN_PAUSE,   IN_PAUSE,   PAUSED,     PAUSED,     STALE,      STALE,      PAUSED,     IN_PAUSE),
    render_fails:
        (FAILED,     FAILED,     FAILED,     FAILED,     FAILED,     FAILED,     FAILED,     FAILED),
    render_fails_with_previous:
        (INSTEAD,    INSTEAD,    FAILED,     FAILED,     STALE,      STALE,      FAILED,     INSTEAD),
    coordinator_down:
        (ALONE,      ALONE,      ALONE,      ALONE,      ALONE,      ALONE,      ALONE,      ALONE),
    coordinator_down_with_copy:
        (KNOWN,      KNOWN,      KNOWN,      KNOWN,      KNOWN,      KNOWN,      KNOWN,      KNOWN),
    coordinator_down_and_render_fails:
        (FAILED,     FAILED,     FAILED,     FAILED,     FAILED,     FAILED,     FAILED,     FAILED),
    commit_lost:
        (ALONE,      ALONE,      ALONE,      ALONE,      ALONE,      ALONE,      ALONE,      ALONE),
}
# fmt: on


def cache_control(policy: Policy, state: State) -> str:
    if state is State.BYPASS:
        return "no-store"
    if policy.window_seconds is None:
        return BLOCKING_CONTROL.replace("error=60", f"error={int(policy.error_window_seconds)}")
    if policy.window_seconds == 0:
        return "s-maxage=0, stale-while-revalidate=0"
    is_stale = state in (State.STALE, State.STALE_METADATA_ERROR)
    return SWR_CONTROL.replace("s-maxage=60", "s-maxage=0") if is_stale else SWR_CONTROL


@pytest.fixture
def pages(api: Api, coordinator: Coordinator) -> Pages:
    return api.pages(coordinator)


@pytest.mark.parametrize(
    ("policy", "state", "expected"),
    [
        pytest.param(policy, state, expected, id=f"{name}-{state.__name__}")
        for state, row in TABLE.items()
        for (name, policy), expected in zip(POLICIES.items(), row, strict=True)
    ],
)
def it_serves_by_policy_and_state(
    api: Api,
    connect: Callable[..., Coordinator],
    coordinator: Coordinator,
    server: Server,
    wire: Proxy,
    name: str,
    view: View,
    policy: Policy,
    state: Callable[[Stage], None],
    expected: Expected,
) -> None:
    stage = Stage(
        api.pages(connect(wire.address)), coordinator, wire, EntryRef(name), policy, view, server.address
    )
    state(stage)
    if isinstance(expected, type):
        with pytest.raises(expected):
            stage.serve()
        return
    response = stage.serve()
    assert (response.status, response.state) == (200, expected.state)
    assert response.header("x-isr-state") == expected.state.value
    assert response.header("cache-control") == cache_control(policy, expected.state)
    assert response.header("content-type") == "text/html; charset=utf-8"
    # A page that is fresh ages by what the machine takes for the test.
    status = response.header("cache-status") or ""
    if expected is HIT:
        assert 30 <= int(status.rpartition("=")[2]) <= 60
        status = expected.cache_status
    assert status == expected.cache_status
    assert (response.header("etag") is None) == (expected.state is State.BYPASS)
    assert response.body.startswith(b"render ")


def it_answers_wait_hit_to_whoever_waited(
    api: Api, coordinator: Coordinator, pages: Pages, name: str, view: View
) -> None:
    policy = Policy.blocking(60)
    view.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(pages.serve, EntryRef(name), policy, view.render) for _ in range(5)]
        assert view.entered.acquire(timeout=WAIT_SECONDS)
        view.gate.set()
        responses = [call.result(WAIT_SECONDS) for call in calls]
    states = sorted(response.state.value for response in responses)
    assert states.count("miss") == 1
    assert set(states) <= {"miss", "wait-hit", "hit"}
    assert {response.body for response in responses} == {b"render 1"}
    assert {
        response.header("cache-status") for response in responses if response.state is State.WAIT_HIT
    } <= {"leasehold; fwd=miss; collapsed"}


def it_waits_for_the_page_of_another_worker(
    coordinator: Coordinator, pages: Pages, name: str, view: View
) -> None:
    granted = coordinator.acquire(EntryRef(name), ttl_seconds=60)
    assert isinstance(granted, Granted)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(pages.serve, EntryRef(name), Policy.blocking(60), view.render)
        granted.lease.commit(NewPage("of another", metadata=PageMetadata(revalidate_seconds=60)))
        response = call.result(WAIT_SECONDS)
    assert response.body == b"of another"
    assert response.state in (State.WAIT_HIT, State.HIT)
    assert view.renders == 0


def it_serves_the_page_of_whoever_overtook_it(
    coordinator: Coordinator, pages: Pages, name: str, view: View
) -> None:
    """A worker that slept past its lease."""
    view.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(pages.serve, EntryRef(name), Policy.blocking(60), view.render)
        assert view.entered.acquire(timeout=WAIT_SECONDS)
        # A lease that an invalidation overtook is anybody's.
        token = coordinator.invalidate(Key(name))
        granted = coordinator.acquire(EntryRef(name), ttl_seconds=60, consistency_token=token)
        assert isinstance(granted, Granted)
        granted.lease.commit(NewPage("of the successor", metadata=PageMetadata(revalidate_seconds=60)))
        view.gate.set()
        response = call.result(WAIT_SECONDS)
    assert (response.state, response.body) == (State.WAIT_HIT, b"of the successor")


def it_regenerates_a_stale_page_in_the_background(
    server: Server,
    connect: Callable[..., Coordinator],
    coordinator: Coordinator,
    pages: Pages,
    name: str,
    view: View,
) -> None:
    entry = EntryRef(name)
    pages.serve(entry, SWR, view.render)
    token = pages.invalidate(Key(name))
    assert pages.serve(entry, SWR, view.render).body == b"render 1"
    # It waits for what goes on in the background.
    coordinator.close()
    outcome = connect(server.address).lookup(entry, consistency_token=token, body=BodyDelivery.INLINE)
    assert view.renders == 2
    assert isinstance(outcome.outcome, FreshPage)
    assert outcome.outcome.page.body == Inline(b"render 2")


def it_reports_a_failed_render_in_the_background(
    api: Api, coordinator: Coordinator, name: str, view: View
) -> None:
    reported: list[tuple[EntryRef, Exception]] = []
    told = threading.Event()

    def report(entry: EntryRef, error: Exception) -> None:
        reported.append((entry, error))
        told.set()

    pages = api.pages(coordinator, on_refresh_error=report)
    pages.serve(EntryRef(name), SWR, view.render)
    pages.invalidate(Key(name))
    view.failure = RenderFailed("no")
    assert pages.serve(EntryRef(name), SWR, view.render).state is State.STALE
    assert told.wait(WAIT_SECONDS)
    assert reported == [(EntryRef(name), view.failure)]


def it_takes_a_status_of_500_for_a_failed_render(pages: Pages, name: str, view: View) -> None:
    view.answer = Rendered(body="broken", status=503)
    policy = Policy.blocking(60)
    response = pages.serve(EntryRef(name), policy, view.render)
    assert (response.status, response.state, response.body) == (503, State.BYPASS, b"broken")
    assert response.header("cache-control") == "no-store"
    with pytest.raises(RegenerationPaused):
        pages.serve(EntryRef(name), policy, view.render)


@pytest.mark.parametrize(
    "rendered",
    [
        Rendered(body="mine", headers=(("Set-Cookie", "session=1"),)),
        Rendered(body="mine", headers=(("Cache-Control", "max-age=5, private"),)),
        Rendered(body="mine", headers=(("cache-control", "no-store"),)),
        Rendered(body="mine", headers=(("cache-control", 'max-age=5, Private="x"'),)),
        Rendered(body="mine", headers=(("Content-Encoding", "gzip"),)),
        Rendered(body="mine", is_kept=False),
        Rendered(body="mine", status=206),
        Rendered(body="mine", status=302),
        Rendered(body="mine", status=403),
    ],
    ids=["set-cookie", "private", "no-store", "Private", "encoded", "unkept", "206", "302", "403"],
)
def it_keeps_no_page_that_is_for_one_visitor(
    coordinator: Coordinator, pages: Pages, name: str, view: View, rendered: Rendered
) -> None:
    view.answer = rendered
    for _ in range(2):
        response = pages.serve(EntryRef(name), Policy.blocking(60), view.render)
        assert (response.state, response.body) == (State.BYPASS, b"mine")
        assert response.header("cache-control") == "no-store"
        assert response.header("cache-status") == "leasehold; fwd=bypass; detail=not-kept"
    assert isinstance(coordinator.lookup(EntryRef(name)).outcome, MissingPage)
    if rendered.headers and rendered.headers[0][0] == "Set-Cookie":
        assert response.header("set-cookie") == "session=1"


def it_keeps_status_headers_tags_and_sidecar(
    coordinator: Coordinator, pages: Pages, name: str, view: View
) -> None:
    view.answer = Rendered(
        body="gone",
        status=404,
        content_type="text/plain",
        headers=(("X-Mine", "1"), ("Content-Length", "4"), ("Age", "7"), ("Leasehold-Policy", "for clients")),
        etag='"mine"',
        tags=(name,),
        sidecar='{"a": 1}',
    )
    for state in (State.MISS, State.HIT):
        response = pages.serve(EntryRef(name), BLOCKING, view.render)
        assert (response.status, response.state) == (404, state)
        assert response.header("x-mine") == "1"
        assert response.header("content-type") == "text/plain"
        assert response.header("etag") == '"mine"'
        assert response.header("age") != "7"
        assert response.header("leasehold-policy") is None
    token = view.seen[0].sidecar_token
    assert token is not None
    assert coordinator.serve_sidecar(EntryRef(name), token).body.collect(1000) == b'{"a": 1}'
    pages.invalidate(Tag(name))
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.MISS


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (None, 200),
        ('"{etag}"', 304),
        ('W/"{etag}"', 304),
        ('"other", W/"{etag}"', 304),
        ('"other" ,"{etag}" , "third"', 304),
        ("*", 304),
        ('"other"', 200),
        ("{etag}", 200),
        ("", 200),
        ('"{etag}', 200),
    ],
)
def it_answers_304_to_who_has_the_page(
    pages: Pages, name: str, view: View, condition: str | None, status: int
) -> None:
    view.answer = Rendered(body="body", headers=(("Vary", "accept"), ("X-Mine", "1")))
    etag = (pages.serve(EntryRef(name), BLOCKING, view.render).header("etag") or "").strip('"')
    wanted = None if condition is None else condition.replace("{etag}", etag)
    response = pages.serve(EntryRef(name), BLOCKING, view.render, if_none_match=wanted)
    assert response.status == status
    assert response.header("vary") == "accept"
    assert response.header("x-isr-state") == "hit"
    assert response.header("etag") == f'"{etag}"'
    if status == 304:
        assert response.body == b""
        assert response.header("x-mine") is None
        assert response.header("content-type") is None


def it_names_the_state_header_as_told(api: Api, coordinator: Coordinator, name: str, view: View) -> None:
    pages = api.pages(coordinator, state_header="X-Cache")
    assert pages.serve(EntryRef(name), BLOCKING, view.render).header("x-cache") == "miss"


def it_refuses_a_tenant_boundary_header_without_a_tenant(pages: Pages, name: str, view: View) -> None:
    request = PageRequest(f"/{name}", headers={"x-tenant-id": ["acme"]})
    with pytest.raises(LeaseholdError) as refused:
        pages.serve(EntryRef(request), BLOCKING, view.render)
    assert refused.value.reason is Reason.TENANT_BOUNDARY
    assert view.renders == 0
    assert pages.serve(EntryRef(request, tenant="acme"), BLOCKING, view.render).state is State.MISS


def it_renders_what_the_coordinator_has_no_name_for(pages: Pages, view: View) -> None:
    response = pages.serve(EntryRef("k" * 5000), BLOCKING, view.render)
    assert (response.state, response.header("cache-status")) == (
        State.BYPASS,
        "leasehold; fwd=bypass; detail=refused",
    )


def it_serves_no_copy_to_another_visitor_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, view: View
) -> None:
    pages = api.pages(connect(wire.address))

    def entry(**request: Any) -> EntryRef:
        return EntryRef(PageRequest(f"/{name}", **request))

    pages.serve(entry(headers={"authorization": ["Bearer a"], "user-agent": ["x"]}), BLOCKING, view.render)
    wire.cut()
    again = pages.serve(
        entry(headers={"Authorization": ["Bearer a"], "user-agent": ["y"]}), BLOCKING, view.render
    )
    assert again.state is State.STALE_METADATA_ERROR
    for other in (
        entry(headers={"authorization": ["Bearer b"]}),
        entry(),
        entry(headers={"authorization": ["Bearer a"]}, cookies=[("session", "1")]),
    ):
        assert pages.serve(other, BLOCKING, view.render).state is State.BYPASS


def it_serves_one_copy_to_all_that_the_coordinator_takes_for_the_same(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, view: View
) -> None:
    pages = api.pages(connect(wire.address))

    def entry(**headers: str) -> EntryRef:
        named = {header.replace("_", "-"): [value] for header, value in headers.items()}
        return EntryRef(PageRequest(f"/{name}", headers=named))

    pages.serve(entry(x_forwarded_for="10.0.0.1", referer="a", accept_language="de"), BLOCKING, view.render)
    wire.cut()
    for headers in ({"x_forwarded_for": "10.0.0.2", "referer": "b", "x_org": "acme", "x_tenant_id": ""}, {}):
        served = pages.serve(entry(**headers), BLOCKING, view.render)
        assert served.state is State.STALE_METADATA_ERROR


def it_serves_no_copy_past_its_time_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, view: View
) -> None:
    pages = api.pages(connect(wire.address), kept_seconds=0)
    pages.serve(EntryRef(name), BLOCKING, view.render)
    wire.cut()
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.BYPASS


def it_renders_at_once_what_came_out_as_one_visitors_only(pages: Pages, name: str) -> None:
    policy, visitors = Policy.blocking(60), 4
    mine = Rendered(body="mine", headers=(("set-cookie", "session=1"),))
    entered, gate = threading.Event(), threading.Event()
    # All of them are rendered for at the same time, or none is.
    together = threading.Barrier(visitors)

    def first(_: Rendering) -> Rendered:
        entered.set()
        assert gate.wait(WAIT_SECONDS)
        return mine

    def render(_: Rendering) -> Rendered:
        together.wait(WAIT_SECONDS / 3)
        return mine

    with ThreadPoolExecutor(1 + visitors) as pool:
        calls = [pool.submit(pages.serve, EntryRef(name), policy, first)]
        assert entered.wait(WAIT_SECONDS)
        calls += [pool.submit(pages.serve, EntryRef(name), policy, render) for _ in range(visitors)]
        gate.set()
        served = [call.result(WAIT_SECONDS) for call in calls]
    assert {response.header("cache-status") for response in served} == {
        "leasehold; fwd=bypass; detail=not-kept"
    }


def it_wakes_those_who_wait_for_a_page_that_turns_out_not_to_be_kept(
    api: Api, coordinator: Coordinator, name: str, view: View
) -> None:
    """The lease is another worker's all the time."""
    pages, policy = api.pages(coordinator), Policy.blocking(60, wait_seconds=WAIT_SECONDS)
    asked = threading.Semaphore(0)
    acquire = pages._core._entries.core.acquire

    async def noted(*arguments: Any, **named: Any) -> Any:
        asked.release()
        return await acquire(*arguments, **named)

    pages._core._entries.core.acquire = noted  # type: ignore[method-assign]
    assert isinstance(coordinator.acquire(EntryRef(name), ttl_seconds=300), Granted)
    view.answer = Rendered(body="mine", is_kept=False)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(pages.serve, EntryRef(name), policy, view.render) for _ in range(2)]
        # The lease's own, and theirs.
        for _ in range(2):
            assert asked.acquire(timeout=WAIT_SECONDS)
        impatient = Policy.blocking(60, wait_seconds=0)
        assert pages.serve(EntryRef(name), impatient, view.render).state is State.BYPASS
        served = [call.result(WAIT_SECONDS / 3) for call in calls]
    assert {response.state for response in served} == {State.BYPASS}


def it_keeps_pages_again_once_one_comes_out_for_everybody(pages: Pages, name: str, view: View) -> None:
    view.answer = Rendered(body="mine", is_kept=False)
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.BYPASS
    view.answer = None
    states = [pages.serve(EntryRef(name), BLOCKING, view.render).state for _ in range(3)]
    assert states == [State.BYPASS, State.MISS, State.HIT]


@pytest.mark.parametrize("is_raised", [True, False])
def it_leaves_it_to_the_coordinator_who_renders_after_a_failure(
    pages: Pages, name: str, view: View, is_raised: bool
) -> None:
    view.answer = Rendered(body="mine", is_kept=False)
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.BYPASS
    for _ in range(2):
        # At once; and under the lease.
        if is_raised:
            view.failure = RenderFailed("no")
            with pytest.raises(RenderFailed):
                pages.serve(EntryRef(name), BLOCKING, view.render)
        else:
            view.answer = Rendered(body="no", status=500)
            assert pages.serve(EntryRef(name), BLOCKING, view.render).status == 500
    with pytest.raises(RegenerationPaused):
        pages.serve(EntryRef(name), BLOCKING, view.render)


@pytest.mark.parametrize(
    "rendered",
    [None, Rendered(body="\ud800")],
    ids=["nothing", "no text"],
)
def it_keeps_no_lease_of_a_render_that_answers_no_page(
    coordinator: Coordinator, pages: Pages, name: str, rendered: Any
) -> None:
    with pytest.raises((UnicodeError, TypeError)):
        pages.serve(EntryRef(name), BLOCKING, lambda _: rendered)
    over = coordinator.acquire(EntryRef(name), wait_seconds=5.0)
    assert type(over).__name__ == "BackingOff"


def it_says_in_its_log_which_page_it_is_about(
    api: Api,
    wire: Proxy,
    connect: Callable[..., Coordinator],
    name: str,
    view: View,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="leasehold")
    pages = api.pages(connect(wire.address))

    def told(what: str, entry: EntryRef) -> list[str]:
        caplog.clear()
        with suppress(RenderFailed):
            pages.serve(entry, BLOCKING, view.render)
        return [line for line in caplog.messages if line.startswith(f"{what}: key={entry.name!r} ")]

    pages.serve(EntryRef(name), BLOCKING, view.render)
    pages.invalidate(Key(name))
    view.failure = RenderFailed("no")
    assert told("page not rendered", EntryRef(name)) == [
        f"page not rendered: key={name!r} error=RenderFailed: no"
    ]
    view.failure, view.answer = None, Rendered(body="x", tags=("t" * 300,))
    assert len(told("page rendered and not kept", EntryRef(f"{name} refused"))) == 1
    assert len(told("page not kept", EntryRef("k" * 5000))) == 1
    wire.cut()
    assert len(told("page without the coordinator", EntryRef(name))) == 1


def it_says_in_its_log_which_page_was_not_refreshed(
    server: Server, name: str, view: View, caplog: pytest.LogCaptureFixture
) -> None:
    with Coordinator(server.address) as coordinator:
        pages = Pages(coordinator)
        pages.serve(EntryRef(name), SWR, view.render)
        pages.invalidate(Key(name))
        view.failure = RenderFailed("no")
        assert pages.serve(EntryRef(name), SWR, view.render).state is State.STALE
    assert caplog.messages == [f"page not refreshed: key={name!r} error=RenderFailed: no"]


def it_says_of_a_visitor_no_more_than_the_route_in_its_log(
    pages: Pages, name: str, view: View, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "plugh"
    request = PageRequest(
        f"/{name}/{{slug}}",
        params={"slug": secret},
        query={"q": [secret], secret: ["1"]},
        headers={"authorization": [secret]},
        cookies=(("session", secret), (secret, "1")),
    )
    view.answer = Rendered(body="x", tags=("t" * 300,))
    pages.serve(EntryRef(request, path=f"/{name}/{secret}"), BLOCKING, view.render)
    (line,) = caplog.messages
    assert line.startswith(f"page rendered and not kept: route='/{name}/{{slug}}' error=refused ")
    assert secret not in line


def it_keeps_no_page_that_varies_by_what_its_key_does_not_have(pages: Pages, name: str, view: View) -> None:
    def states(vary: str, **request: Any) -> list[State]:
        entry = EntryRef(PageRequest(f"/{name}/{vary}", **request), tenant="acme")
        view.answer = Rendered(body="page", headers=(("Vary", vary),))
        return [pages.serve(entry, BLOCKING, view.render).state for _ in range(2)]

    unkept, kept = [State.BYPASS, State.BYPASS], [State.MISS, State.HIT]
    assert states("Accept-Language") == unkept
    assert states("accept-encoding, accept-language") == unkept
    assert states("*") == unkept
    assert states("Cookie", cookie_variance=NoCookies()) == unkept
    assert states("authorization", ignore_credentials=True) == unkept
    assert states("Accept-Encoding, Cookie, X-Api-Key, x-tenant-id") == kept


def it_tells_caches_of_the_header_that_chose_the_tenant(pages: Pages, name: str, view: View) -> None:
    def vary(headers: dict[str, list[str]]) -> str | None:
        entry = EntryRef(PageRequest(f"/{name}", headers=headers), tenant="acme")
        return pages.serve(entry, SWR, view.render).header("vary")

    assert vary({"X-Tenant-Id": ["acme"]}) == "x-tenant-id"
    assert vary({"x-facetheory-tenant": ["acme"], "x-tenant-id": ["acme"]}) == (
        "x-facetheory-tenant, x-tenant-id"
    )
    assert vary({"x-tenant-id": [" "]}) is None


def it_refreshes_later_what_no_thread_can_be_started_for(
    server: Server, name: str, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with Coordinator(server.address) as coordinator:
        pages = Pages(coordinator)
        pages.serve(EntryRef(name), SWR, view.render)
        pages.invalidate(Key(name))
        with monkeypatch.context() as without:
            shim = SimpleNamespace(**{**vars(threading), "Thread": NoThread})
            without.setattr(_blocking, "threading", shim)
            assert pages.serve(EntryRef(name), SWR, view.render).state is State.STALE
            # A render that no thread can renew the lease of goes on all the same.
            assert pages.serve(EntryRef(f"{name}-other"), SWR, view.render).state is State.MISS
        assert pages.serve(EntryRef(name), SWR, view.render).state is State.STALE
    assert view.renders == 3


def it_serves_no_purged_copy_while_the_coordinator_is_down(
    api: Api, wire: Proxy, connect: Callable[..., Coordinator], name: str, view: View
) -> None:
    pages = api.pages(connect(wire.address))
    pages.serve(EntryRef(name), BLOCKING, view.render)
    pages.invalidate(Key(name), depth=Depth.HARD)
    wire.cut()
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.BYPASS


def it_serves_no_copy_of_what_another_worker_purged(
    api: Api,
    wire: Proxy,
    connect: Callable[..., Coordinator],
    coordinator: Coordinator,
    name: str,
    view: View,
) -> None:
    pages = api.pages(connect(wire.address))
    pages.serve(EntryRef(name), BLOCKING, view.render)
    token = coordinator.invalidate(Key(name), depth=Depth.HARD)
    assert isinstance(coordinator.acquire(EntryRef(name), ttl_seconds=60, consistency_token=token), Granted)
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.BYPASS
    wire.cut()
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.BYPASS


def it_keeps_a_lease_for_as_long_as_a_render_takes(
    coordinator: Coordinator, pages: Pages, name: str, view: View
) -> None:
    """Twice the lease's ttl: it is another's by then, unless it was renewed."""
    policy = Policy.blocking(60, lease_ttl_seconds=2)
    view.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(pages.serve, EntryRef(name), policy, view.render)
        assert view.entered.acquire(timeout=WAIT_SECONDS)
        waiting = pool.submit(coordinator.acquire, EntryRef(name), wait_seconds=4.0)
        outcome = waiting.result(WAIT_SECONDS)
        assert not isinstance(outcome, Granted), outcome
        view.gate.set()
        assert call.result(WAIT_SECONDS).state is State.MISS


def it_serves_pages_of_more_than_a_message(
    api: Api, coordinator: Coordinator, pages: Pages, name: str, view: View
) -> None:
    view.answer = Rendered(body="x" * (5 << 20))
    assert pages.serve(EntryRef(name), BLOCKING, view.render).state is State.MISS
    response = api.pages(coordinator).serve(EntryRef(name), BLOCKING, view.render)
    assert (response.state, len(response.body)) == (State.HIT, 5 << 20)
