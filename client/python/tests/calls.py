"""Calls: one effect, an answer in time, and errors that say what is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from support.proxy import Proxy
from support.scripted import Scripted, ended, missing, refused
from support.server import Server, dead_address

from leasehold import (
    SERVICE_CONFIG,
    BackingOff,
    BodyDelivery,
    BodyKind,
    BodyTooLarge,
    Broken,
    Committed,
    CommittedStale,
    ConfigurationError,
    ConsistencyToken,
    Coordinator,
    DeadlineExceeded,
    Depth,
    Ended,
    EntryRef,
    Fenced,
    FreshPage,
    Granted,
    Health,
    Held,
    InDoubt,
    Inline,
    Key,
    LeaseholdError,
    Lost,
    MissingPage,
    NewPage,
    NotHeld,
    NotSent,
    OnlyCookies,
    PageCommitted,
    PageMetadata,
    PageRequest,
    PagesInvalidated,
    PathPrefix,
    ProtocolError,
    Ready,
    Reason,
    Refused,
    RegenerationPaused,
    Released,
    Renewed,
    RequestId,
    RetryBudget,
    RetryPolicy,
    Settings,
    SidecarToken,
    StalePage,
    StaleReason,
    Superseded,
    Tag,
    TimedOut,
    TooLarge,
    Unchanged,
    Uploaded,
    Url,
    WatchMessage,
    WatchResync,
    WatchStarted,
    WholeTenant,
    _io,
    _wire,
)
from leasehold.v1 import coordinator_pb2 as pb

Code = grpc.StatusCode

# What each reason comes with, whether it may be retried, and whether the call may have been applied.
REASONS = [
    ("INVALID_FIELD", Code.INVALID_ARGUMENT, False, False),
    ("TENANT_BOUNDARY", Code.FAILED_PRECONDITION, False, False),
    ("OBJECT_MISSING", Code.FAILED_PRECONDITION, False, False),
    ("OBJECT_CONFLICT", Code.FAILED_PRECONDITION, False, False),
    ("CONSISTENCY_TOKEN_UNKNOWN", Code.FAILED_PRECONDITION, False, False),
    ("SIDECAR_NOT_FOUND", Code.NOT_FOUND, False, False),
    ("OBJECT_NOT_FOUND", Code.NOT_FOUND, False, False),
    ("UNAUTHENTICATED", Code.UNAUTHENTICATED, False, False),
    ("PERMISSION_DENIED", Code.PERMISSION_DENIED, False, False),
    ("PAGE_NOT_FOUND", Code.NOT_FOUND, False, False),
    ("LIMIT_REACHED", Code.RESOURCE_EXHAUSTED, True, False),
    ("STORE_UNAVAILABLE", Code.UNAVAILABLE, True, False),
    ("OUTCOME_UNKNOWN", Code.UNAVAILABLE, True, True),
    ("DRAINING", Code.UNAVAILABLE, True, False),
    ("DEADLINE", Code.DEADLINE_EXCEEDED, True, True),
    ("STORED_DATA_CORRUPT", Code.DATA_LOSS, False, False),
    ("BODY_URL_UNSUPPORTED", Code.UNIMPLEMENTED, False, False),
    ("INTERNAL", Code.INTERNAL, False, True),
]
ONCE = Settings(retry=RetryPolicy(max_attempts=1))


def acquired(coordinator: Coordinator, entry: EntryRef) -> Any:
    """The lease, which nobody else is to have."""
    outcome = coordinator.acquire(entry, ttl_seconds=60)
    assert isinstance(outcome, Granted), outcome
    return outcome.lease


def it_goes_the_whole_round(coordinator: Coordinator, name: str) -> None:
    entry = EntryRef(name)
    assert isinstance(coordinator.lookup(entry).outcome, MissingPage)
    lease = acquired(coordinator, entry)
    assert 0 < lease.remaining_seconds <= 60
    assert lease.renewable_for_seconds > 60
    assert lease.html_object.endswith(".html")
    assert lease.sidecar_object.endswith(".hydration.json")
    assert lease.previous is None
    assert isinstance(lease.renew(ttl_seconds=90), Renewed)
    assert 60 < lease.remaining_seconds <= 90
    metadata = PageMetadata(
        headers=(("x-a", "b"),), revalidate_seconds=60, tags=(name,), stale_if_error_seconds=1.5
    )
    committed = lease.commit(NewPage("<h1>Hello</h1>", sidecar="{}", metadata=metadata))
    assert isinstance(committed, Committed)
    outcome = coordinator.lookup(entry, body=BodyDelivery.INLINE).outcome
    assert isinstance(outcome, FreshPage)
    page = outcome.page
    assert page.body == Inline(b"<h1>Hello</h1>")
    assert (page.metadata.headers, page.metadata.tags) == ((("x-a", "b"),), (name,))
    assert (page.metadata.revalidate_seconds, page.metadata.stale_if_error_seconds) == (60, 1.5)
    assert page.metadata.etag == committed.etag
    known = coordinator.lookup(entry, body=BodyDelivery.INLINE, known_generation=page.generation).outcome
    assert isinstance(known, FreshPage)
    assert known.page.body == Unchanged()
    assert isinstance(coordinator.acquire(entry), Ready)
    token = coordinator.invalidate(Tag(name))
    stale = coordinator.lookup(entry, consistency_token=token).outcome
    assert isinstance(stale, StalePage)
    assert stale.reason is StaleReason.INVALIDATED
    token = coordinator.invalidate(Key(name), depth=Depth.HARD)
    assert isinstance(coordinator.lookup(entry, consistency_token=token).outcome, MissingPage)


def it_tells_who_holds_a_lease_and_who_lost_it(coordinator: Coordinator, name: str) -> None:
    entry = EntryRef(name)
    lease = acquired(coordinator, entry)
    held = coordinator.acquire(entry, wait_seconds=0.1)
    assert isinstance(held, Held)
    assert held.regeneration.owner == "leasehold-python"
    # A lease that an invalidation overtook is anybody's.
    token = coordinator.invalidate(Key(name))
    granted = coordinator.acquire(entry, ttl_seconds=60, consistency_token=token)
    assert isinstance(granted, Granted)
    successor = granted.lease
    assert isinstance(lease.renew(), Lost)
    assert lease.commit(NewPage("late")) == Fenced(successor.generation)
    assert isinstance(successor.commit(NewPage("in time")), Committed)
    assert lease.commit(NewPage("late")) == Superseded(successor.generation)
    assert isinstance(lease.release(), NotHeld)


def it_adopts_the_lease_of_a_process_that_died(coordinator: Coordinator, name: str) -> None:
    entry, request_id = EntryRef(name), coordinator.new_request_id()
    granted = coordinator.acquire(entry, ttl_seconds=60, request_id=request_id)
    assert isinstance(granted, Granted)
    again = coordinator.acquire(entry, request_id=request_id)
    assert isinstance(again, Granted)
    assert again.lease.generation == granted.lease.generation
    adopted = coordinator.adopt_lease(entry, RequestId(request_id.expose()), granted.lease.generation)
    assert isinstance(adopted.commit(NewPage("adopted")), Committed)
    assert isinstance(coordinator.acquire(entry, request_id=request_id), Ended)


def it_gives_back_what_a_block_did_not_end(coordinator: Coordinator, name: str) -> None:
    entry = EntryRef(name)
    with acquired(coordinator, entry) as lease:
        pass
    assert isinstance(lease.release(), Released)
    with acquired(coordinator, entry) as lease:
        assert isinstance(
            lease.commit(NewPage("kept", metadata=PageMetadata(revalidate_seconds=0))), Committed
        )
    with pytest.raises(RuntimeError, match="render"), acquired(coordinator, entry):
        raise RuntimeError("render")
    paused = coordinator.acquire(entry)
    assert getattr(paused, "reason", None) == "RuntimeError: render"


def it_takes_a_page_that_is_refused_for_a_failed_render(coordinator: Coordinator, name: str) -> None:
    entry = EntryRef(name)
    with pytest.raises(LeaseholdError, match="status"), acquired(coordinator, entry) as lease:
        lease.commit(NewPage("page", metadata=PageMetadata(status=503)))
    assert isinstance(coordinator.acquire(entry), BackingOff)


def it_takes_a_page_that_could_not_be_committed_for_no_failed_render(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    lasting = {"seconds": 60}
    grant = pb.LeaseGrant(generation=7, remaining=lasting, renewable_for=lasting)
    scripted = script(lambda _request, _context: pb.AcquireLeaseResponse(granted=grant))
    scripted.by_method.update(
        CommitPointer=refused(Code.UNAVAILABLE, "STORE_UNAVAILABLE"),
        ReleaseLease=lambda _request, _context: pb.ReleaseLeaseResponse(released=pb.LeaseReleased()),
    )
    coordinator = connect(scripted.address, ONCE)
    with pytest.raises(LeaseholdError), acquired(coordinator, EntryRef("k")) as lease:
        lease.commit(NewPage("page"))
    assert scripted.requests[-1].WhichOneof("_failure") is None


def it_says_in_its_log_whose_lease_was_not_given_back(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator], caplog: pytest.LogCaptureFixture
) -> None:
    lasting = {"seconds": 60}
    grant = pb.LeaseGrant(generation=7, remaining=lasting, renewable_for=lasting)
    scripted = script(lambda _request, _context: pb.AcquireLeaseResponse(granted=grant))
    scripted.by_method.update(ReleaseLease=refused(Code.INTERNAL, "INTERNAL"))
    with acquired(connect(scripted.address, ONCE), EntryRef("k")):
        pass
    (line,) = caplog.messages
    assert line.startswith("lease not given back: key='k' generation=7 error=refused (INTERNAL)")


def it_ends_with_its_process_also_where_it_was_not_closed(server: Server, name: str) -> None:
    """The process of a short script, which ends a moment after it has connected."""
    code = "from leasehold import *; c = Coordinator(%r); c.lookup(EntryRef(%r)); print('looked up')"
    for _ in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", code % (server.address, name)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert (ended.stdout, ended.stderr) == ("looked up\n", "")


def it_renews_a_lease_while_a_block_runs(coordinator: Coordinator, name: str) -> None:
    entry = EntryRef(name)
    granted = coordinator.acquire(entry, ttl_seconds=2)
    assert isinstance(granted, Granted)
    lease: Any = granted.lease
    with lease.renewing(ttl_seconds=2):
        # Another waits for twice the ttl, and is not granted it.
        assert isinstance(coordinator.acquire(entry, wait_seconds=4.0), Held)
    assert isinstance(lease.commit(NewPage("late")), Committed)


def it_uploads_what_does_not_fit_a_message(coordinator: Coordinator, name: str) -> None:
    entry = EntryRef(name)
    html, sidecar = "h" * (4 << 20), b"s" * (2 << 20)
    lease = acquired(coordinator, entry)
    assert isinstance(lease.commit(NewPage(html, sidecar)), Committed)
    outcome = coordinator.lookup(entry, body=BodyDelivery.INLINE).outcome
    assert isinstance(outcome, FreshPage)
    assert outcome.page.body == TooLarge()
    served = coordinator.serve_page(entry)
    assert served.body.collect(8 << 20) == html.encode()
    token = outcome.page.sidecar_token
    assert token is not None
    served_sidecar = coordinator.serve_sidecar(entry, token)
    assert served_sidecar.size_bytes == len(sidecar)
    assert served_sidecar.body.collect(8 << 20) == sidecar
    with pytest.raises(BodyTooLarge):
        coordinator.serve_page(entry).body.collect(1000)


def it_commits_what_was_uploaded_before(coordinator: Coordinator, name: str) -> None:
    lease = acquired(coordinator, EntryRef(name))
    uploaded = lease.upload(BodyKind.HTML, b"uploaded")
    assert isinstance(uploaded, Uploaded)
    assert isinstance(lease.commit(NewPage(uploaded.body)), Committed)
    assert coordinator.serve_page(EntryRef(name)).body.collect(1000) == b"uploaded"


@pytest.mark.parametrize("size", [5, 4 << 20])
def it_reads_bodies_back_by_the_names_that_it_gave_them(
    coordinator: Coordinator, name: str, size: int
) -> None:
    entry, html = EntryRef(name, tenant="acme"), b"x" * size
    page = NewPage(html, "{}", html_name=f"{name}.html", sidecar_name=f"{name}.hydration.json")
    committed = acquired(coordinator, entry).commit(page)
    assert isinstance(committed, Committed)
    assert (committed.html_name, committed.sidecar_name) == (page.html_name, page.sidecar_name)
    found = coordinator.lookup(entry).outcome
    assert isinstance(found, FreshPage)
    assert (found.page.html_name, found.page.sidecar_name) == (page.html_name, page.sidecar_name)
    served = coordinator.serve_object(f"{name}.html", tenant="acme")
    assert (served.kind, served.size_bytes, served.digest) == (BodyKind.HTML, size, found.page.digest)
    assert served.body.collect(size) == html
    sidecar = coordinator.serve_object(f"{name}.hydration.json", tenant="acme")
    assert (sidecar.kind, sidecar.body.collect(2)) == (BodyKind.SIDECAR, b"{}")
    with pytest.raises(Refused) as foreign:
        coordinator.serve_object(f"{name}.html")
    assert foreign.value.reason is Reason.OBJECT_NOT_FOUND
    beyond = ConsistencyToken("c1-1000000")
    with pytest.raises(Refused) as unknown:
        coordinator.serve_object(f"{name}.html", tenant="acme", consistency_token=beyond)
    assert unknown.value.reason is Reason.CONSISTENCY_TOKEN_UNKNOWN
    other = acquired(coordinator, EntryRef(f"{name} too", tenant="acme"))
    with pytest.raises(Refused) as taken:
        other.upload(BodyKind.HTML, html, name=f"{name}.html")
    assert taken.value.reason is Reason.OBJECT_CONFLICT


def it_says_that_there_is_no_page_or_sidecar(coordinator: Coordinator, name: str) -> None:
    with pytest.raises(Refused) as no_page:
        coordinator.serve_page(EntryRef(name))
    assert no_page.value.reason is Reason.PAGE_NOT_FOUND
    with pytest.raises(Refused) as no_sidecar:
        coordinator.serve_sidecar(EntryRef(name), SidecarToken("nonsense"))
    assert no_sidecar.value.reason is Reason.SIDECAR_NOT_FOUND


def it_asks_for_bodies_as_of_an_invalidation(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(refused(grpc.StatusCode.NOT_FOUND, "OBJECT_NOT_FOUND"))
    coordinator = connect(scripted.address)
    for token in (None, ConsistencyToken("c1-7")):
        with pytest.raises(Refused):
            coordinator.serve_sidecar(EntryRef("k"), SidecarToken("t"), consistency_token=token)
        with pytest.raises(Refused):
            coordinator.serve_object("a.html", consistency_token=token)
    assert [request.consistency_token for request in scripted.requests] == ["", "", "c1-7", "c1-7"]


def it_tells_which_name_an_unchanged_body_keeps(coordinator: Coordinator, name: str) -> None:
    first = f"{name}.html"
    acquired(coordinator, EntryRef(name)).commit(NewPage("same", html_name=first))
    for again, overtaken in ((f"{name} again.html", False), (f"{name} overtaken.html", True)):
        coordinator.invalidate(Key(name))
        lease = acquired(coordinator, EntryRef(name))
        if overtaken:
            coordinator.invalidate(Key(name))
        committed = lease.commit(NewPage("same", html_name=again))
        assert isinstance(committed, CommittedStale if overtaken else Committed)
        assert (committed.html_name, committed.sidecar_name) == (first, None)


def it_marks_a_page_that_was_invalidated_in_mid_render(coordinator: Coordinator, name: str) -> None:
    lease = acquired(coordinator, EntryRef(name))
    coordinator.invalidate(Tag(name), depth=Depth.HARD)
    committed = lease.commit(NewPage("late", metadata=PageMetadata(tags=(name,))))
    assert isinstance(committed, CommittedStale)
    assert committed.purged


def it_derives_keys_from_requests(coordinator: Coordinator, name: str) -> None:
    request = PageRequest(
        route="/blog/{slug}",
        params={"slug": name},
        query={"page": ["1", "2"]},
        headers={"Authorization": ["Bearer xyzzy"]},
        cookies=[("lang", "de"), ("session", "plugh")],
        cookie_variance=OnlyCookies(("lang",)),
    )
    entry = EntryRef(request, tenant="acme", deployment="v1", path=f"/blog/{name}")
    acquired(coordinator, entry).commit(NewPage("derived", metadata=PageMetadata(revalidate_seconds=60)))
    other = PageRequest(
        route="/blog/{slug}",
        params={"slug": name},
        query={"page": ["1", "2"]},
        headers={"authorization": ["Bearer xyzzy"]},
        cookies=[("session", "other"), ("lang", "de")],
        cookie_variance=OnlyCookies(("lang",)),
    )
    same = EntryRef(other, tenant="acme", deployment="v1")
    assert isinstance(coordinator.lookup(same).outcome, FreshPage)
    token = coordinator.invalidate(PathPrefix("/blog", tenant="acme"))
    assert isinstance(coordinator.lookup(same, consistency_token=token).outcome, StalePage)
    shown = repr(entry)
    assert "/blog/{slug}" in shown
    assert "xyzzy" not in shown
    assert "plugh" not in shown


def it_asks_for_health(coordinator: Coordinator) -> None:
    assert coordinator.health() is Health.SERVING


def it_watches_commits_and_invalidations(coordinator: Coordinator, name: str) -> None:
    events = coordinator.watch(Tag(name))
    assert isinstance(next(events).event, WatchStarted)
    acquired(coordinator, EntryRef(name)).commit(NewPage("watched", metadata=PageMetadata(tags=(name,))))
    committed = next(events)
    assert isinstance(committed.event, PageCommitted)
    assert (committed.event.key, committed.event.tags) == (name, (name,))
    token = coordinator.invalidate(Tag(name), depth=Depth.HARD)
    invalidated = next(events)
    assert isinstance(invalidated.event, PagesInvalidated)
    assert invalidated.event.depth is Depth.HARD
    assert invalidated.event.scopes == (Tag(name, "default"),)
    assert invalidated.event.consistency_token == token
    # Another one goes on after the commit, without what came before it.
    resumed = coordinator.watch(Tag(name), resume=committed.resume_token)
    assert isinstance(next(resumed).event, WatchStarted)
    assert next(resumed).event == invalidated.event


def it_watches_on_when_the_coordinator_comes_back(
    new_server: Callable[..., Server], connect: Callable[..., Coordinator]
) -> None:
    server = new_server()
    coordinator = connect(server.address)
    events = coordinator.watch(WholeTenant())
    assert isinstance(next(events).event, WatchStarted)
    server.kill()
    server.start()
    seen: list[WatchMessage] = [next(events), next(events)]
    assert {type(message.event) for message in seen} == {WatchResync, WatchStarted}
    coordinator.invalidate(Tag("t"))
    assert isinstance(next(events).event, PagesInvalidated)


def it_makes_no_call_after_it_was_closed(coordinator: Coordinator, name: str) -> None:
    coordinator.lookup(EntryRef(name))
    events = coordinator.watch(Tag(name))
    assert isinstance(next(events).event, WatchStarted)
    coordinator.close()
    with pytest.raises(ConfigurationError, match="closed"):
        coordinator.lookup(EntryRef(name))
    with pytest.raises(ConfigurationError, match="closed"):
        next(events)
    coordinator.close()


def it_repeats_an_acquire_with_its_request_id_and_says_so(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(
        refused(Code.UNAVAILABLE, "OUTCOME_UNKNOWN"), refused(Code.UNAVAILABLE, "DRAINING"), ended
    )
    assert connect(scripted.address).acquire(EntryRef("k")) == Ended()
    assert [request.retry for request in scripted.requests] == [False, True, True]
    assert len({request.request_id for request in scripted.requests}) == 1
    assert len(scripted.requests[0].request_id) == 16


def it_takes_a_new_request_id_for_each_intent(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(ended)
    coordinator = connect(scripted.address)
    for _ in range(3):
        coordinator.acquire(EntryRef("k"))
    assert len({request.request_id for request in scripted.requests}) == 3


def it_gives_a_repeated_wait_what_is_left_of_it(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(refused(Code.UNAVAILABLE, "OUTCOME_UNKNOWN", retry_after_seconds=0.2), ended)
    connect(scripted.address).acquire(EntryRef("k"), wait_seconds=30)
    first, second = (_wire.seconds_of(request.wait) for request in scripted.requests)
    assert 29.9 < first <= 30
    assert 20 < second <= first - 0.2
    timeouts = [timeout or 0 for timeout in scripted.timeouts]
    assert 30 < timeouts[0] <= 36


@pytest.mark.parametrize(
    ("reason", "code", "is_retryable", "is_applied"), REASONS, ids=[row[0] for row in REASONS]
)
def it_judges_refusals_by_their_reason(
    script: Callable[..., Scripted],
    connect: Callable[..., Coordinator],
    reason: str,
    code: grpc.StatusCode,
    is_retryable: bool,
    is_applied: bool,
) -> None:
    scripted = script(refused(code, reason, field="entry.key", limit="waiters"))
    with pytest.raises(Refused) as raised:
        connect(scripted.address, ONCE).lookup(EntryRef("k"))
    error = raised.value
    assert error.reason is Reason[reason]
    assert (error.is_retryable, error.may_have_been_applied) == (is_retryable, is_applied)
    assert error.refusal is not None
    assert error.refusal.code is code
    assert error.refusal.metadata == {"limit": "waiters"}
    assert [violation.field for violation in error.refusal.fields] == ["entry.key"]


def it_knows_every_reason_of_the_contract() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name, _ in pb.ErrorReason.items()} - {"UNSPECIFIED"}
    assert known == {row[0] for row in REASONS}
    assert known == {reason.value for reason in Reason} - {"UNSTATED", "UNKNOWN"}


@pytest.mark.parametrize(
    ("code", "kind", "is_retryable", "is_applied"),
    [
        (Code.UNAVAILABLE, Broken, True, True),
        (Code.CANCELLED, Broken, True, True),
        (Code.UNKNOWN, Broken, True, True),
        (Code.UNIMPLEMENTED, Refused, False, False),
        (Code.INVALID_ARGUMENT, Refused, False, False),
        (Code.OUT_OF_RANGE, Refused, False, True),
        (Code.INTERNAL, Refused, False, True),
    ],
)
def it_judges_what_has_no_reason_by_its_code(
    script: Callable[..., Scripted],
    connect: Callable[..., Coordinator],
    code: grpc.StatusCode,
    kind: type[LeaseholdError],
    is_retryable: bool,
    is_applied: bool,
) -> None:
    with pytest.raises(kind) as raised:
        connect(script(refused(code, "")).address, ONCE).lookup(EntryRef("k"))
    assert (raised.value.is_retryable, raised.value.may_have_been_applied) == (is_retryable, is_applied)


def it_keeps_reasons_from_elsewhere_as_text(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    for domain, text in (("leasehold", "NEW_REASON"), ("other.example", "other.example/NEW_REASON")):
        scripted = script(refused(Code.UNAVAILABLE, "NEW_REASON", domain=domain))
        with pytest.raises(Refused) as raised:
            connect(scripted.address, ONCE).lookup(EntryRef("k"))
        assert raised.value.refusal is not None
        assert (raised.value.reason, raised.value.refusal.reason_text) == (Reason.UNKNOWN, text)
        assert raised.value.is_retryable
        assert raised.value.may_have_been_applied


def it_waits_for_as_long_as_the_coordinator_asks(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(refused(Code.RESOURCE_EXHAUSTED, "LIMIT_REACHED", retry_after_seconds=0.3), missing)
    begun = time.monotonic()
    connect(scripted.address).lookup(EntryRef("k"))
    assert time.monotonic() - begun >= 0.3


def it_never_repeats_what_is_refused_for_good(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(refused(Code.INVALID_ARGUMENT, "INVALID_FIELD"))
    with pytest.raises(Refused):
        connect(scripted.address).lookup(EntryRef("k"))
    assert len(scripted.requests) == 1


def it_stops_repeating_when_the_budget_is_spent(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(refused(Code.UNAVAILABLE, "STORE_UNAVAILABLE"))
    policy = RetryPolicy(
        initial_backoff_seconds=0.001,
        max_backoff_seconds=0.001,
        budget=RetryBudget(burst=5, per_second=0, per_call=0),
    )
    coordinator = connect(scripted.address, Settings(retry=policy))
    for _ in range(3):
        with pytest.raises(Refused):
            coordinator.lookup(EntryRef("k"))
    # Three calls, and five retries among them.
    assert len(scripted.requests) == 8


def it_says_that_nothing_was_sent_where_nobody_listens(connect: Callable[..., Coordinator]) -> None:
    with pytest.raises(NotSent) as raised:
        connect(dead_address(), ONCE).invalidate(Tag("t"))
    assert raised.value.is_retryable
    assert not raised.value.may_have_been_applied


def it_ends_in_time_where_nobody_listens(connect: Callable[..., Coordinator]) -> None:
    settings = Settings(overall_timeout_seconds=1.0)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded) as raised:
        connect(dead_address(), settings).invalidate(Tag("t"))
    assert time.monotonic() - begun < 10
    assert raised.value.attempts > 1
    assert isinstance(raised.value.last, NotSent)
    assert not raised.value.may_have_been_applied
    assert raised.value.is_outage


def it_names_the_address_of_whoever_does_not_answer(
    wire: Proxy, script: Callable[..., Scripted], connect: Callable[..., Coordinator], name: str
) -> None:
    nowhere = dead_address()
    with pytest.raises(NotSent, match=f"no coordinator was reached at {nowhere}$"):
        connect(nowhere, ONCE).lookup(EntryRef(name))
    with pytest.raises(DeadlineExceeded, match=f"; at last: no coordinator was reached at {nowhere}$"):
        connect(nowhere, Settings(overall_timeout_seconds=0.5)).lookup(EntryRef(name))
    coordinator = connect(wire.address, Settings(attempt_timeout_seconds=0.3, retry=ONCE.retry))
    coordinator.lookup(EntryRef(name))
    wire.block()
    with pytest.raises(TimedOut, match=rf"^no answer from {wire.address} within 0\.300 s$"):
        coordinator.lookup(EntryRef(name))
    broken = script(refused(Code.UNAVAILABLE, "")).address
    with pytest.raises(Broken, match=f"^the connection to {broken} broke"):
        connect(broken, ONCE).lookup(EntryRef(name))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RegenerationPaused("no", 1, 2.5), "failed once, next try in 2.500 s: no"),
        (RegenerationPaused("no", 2, 2.5), "failed 2 times in a row, next try in 2.500 s: no"),
        (DeadlineExceeded(1.0, 1, False, None), "not done within 1.000 s and 1 attempt"),
        (DeadlineExceeded(1.0, 2, False, None), "not done within 1.000 s and 2 attempts"),
        (BodyTooLarge(1), "the body is larger than 1 byte"),
        (BodyTooLarge(2), "the body is larger than 2 bytes"),
    ],
)
def it_counts_as_people_do(error: LeaseholdError, text: str) -> None:
    assert str(error) == text


def it_stays_in_doubt_about_an_earlier_attempt(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(
        refused(Code.UNAVAILABLE, "OUTCOME_UNKNOWN"), refused(Code.UNAVAILABLE, "STORE_UNAVAILABLE")
    )
    with pytest.raises(InDoubt) as raised:
        connect(scripted.address, Settings(retry=RetryPolicy(max_attempts=2))).invalidate(Tag("t"))
    assert raised.value.may_have_been_applied
    assert raised.value.reason is Reason.STORE_UNAVAILABLE


def it_replaces_a_connection_on_which_nothing_is_heard(
    wire: Proxy, connect: Callable[..., Coordinator], name: str
) -> None:
    coordinator = connect(wire.address, Settings(attempt_timeout_seconds=0.5))
    coordinator.lookup(EntryRef(name))
    for made in (1, 2, 3):
        assert wire.connections == made
        wire.block()
        coordinator.lookup(EntryRef(name))
    # Those that were replaced are closed.
    assert wire.wait_until_open(1)


def it_replaces_a_connection_that_broke(wire: Proxy, connect: Callable[..., Coordinator], name: str) -> None:
    coordinator = connect(wire.address)
    coordinator.lookup(EntryRef(name))
    for _ in range(5):
        wire.cut()
        wire.mend()
        coordinator.invalidate(Key(name))


def it_refuses_an_answer_that_breaks_the_contract(
    script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    scripted = script(lambda _request, _context: pb.LookupResponse())
    with pytest.raises(ProtocolError, match="the outcome of a lookup") as raised:
        connect(scripted.address).lookup(EntryRef("k"))
    assert not raised.value.is_retryable
    negative = pb.LookupResponse(fresh=pb.FreshPage(page=pb.Page(), fresh_for={"seconds": -1}))
    with pytest.raises(ProtocolError, match="a duration"):
        connect(script(lambda _request, _context: negative).address).lookup(EntryRef("k"))


def it_shows_no_secrets(coordinator: Coordinator, name: str) -> None:
    lease = acquired(coordinator, EntryRef(name))
    secret = lease.request_id.expose()
    shown = [
        repr(lease),
        repr(lease.request_id),
        str(lease.request_id),
        f"{lease.sidecar_token}",
        repr(coordinator),
    ]
    for text in shown:
        assert secret.hex() not in text
        assert repr(secret) not in text
        assert lease.sidecar_token.expose() not in text
    assert repr(Url("https://s3/?signature=abc")) == "Url()"
    assert repr(Inline(b"secret")) == "Inline(6 bytes)"


@pytest.mark.parametrize(
    "address",
    [
        "https://a",
        "https://user:a-secret@a:1",
        "ftp://a:1",
        "a",
        "127.0.0.1:7420",
        "localhost:7420",
        "//127.0.0.1:7420",
        "",
        "http://",
        "http://a",
        "http://a:b",
        "http://a:1/path",
        "http://u@a:1",
    ],
)
def it_refuses_an_address_of_no_use(connect: Callable[..., Coordinator], address: str) -> None:
    with pytest.raises(ConfigurationError, match="http://") as raised:
        connect(address)
    assert "secret" not in str(raised.value)


def it_agrees_with_the_service_config() -> None:
    config = json.loads(SERVICE_CONFIG)
    named = {name["method"]: method for method in config["methodConfig"] for name in method["name"]}
    methods = pb.DESCRIPTOR.services_by_name["CoordinatorService"].methods_by_name
    assert set(named) == set(methods)
    policy = RetryPolicy()
    assert named["Lookup"]["retryPolicy"]["initialBackoff"] == f"{policy.initial_backoff_seconds}s"
    assert named["Lookup"]["retryPolicy"]["maxBackoff"] == f"{policy.max_backoff_seconds:g}s"
    assert named["Lookup"]["timeout"] == f"{Settings().overall_timeout_seconds:g}s"
    assert config["retryThrottling"] == {
        "maxTokens": policy.budget.burst,
        "tokenRatio": policy.budget.per_call,
    }
    # The handle says of a repeated acquire that it is one: no channel may repeat it by itself.
    assert "retryPolicy" not in named["AcquireLease"]


def it_speaks_every_method_of_the_contract_but_the_stream_of_lookups() -> None:
    service = pb.DESCRIPTOR.services_by_name["CoordinatorService"]
    spoken = {method.path for method in vars(_io).values() if isinstance(method, _io.Method)}
    wanted = {f"/{service.full_name}/{name}" for name in service.methods_by_name if name != "LookupStream"}
    assert spoken == wanted


def it_doubles_its_pauses_up_to_their_limit() -> None:
    policy = RetryPolicy()
    pauses = [round(policy.backoff_seconds(failed) * 1000) for failed in range(1, 9)]
    assert pauses == [25, 50, 100, 200, 400, 800, 1000, 1000]
    assert policy.backoff_seconds(10**9) == policy.max_backoff_seconds
