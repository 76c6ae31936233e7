"""What a worker remembers: last copies, that the coordinator is away, and its own invalidations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.api import Api
from support.scripted import Scripted, ended, missing

from leasehold import Coordinator, EntryRef, Policy, Rendered, State
from leasehold._guard import FAILURES_TO_OPEN, OPEN_SECONDS, TRIAL_SECONDS, Admission, Breaker
from leasehold._kept import OVERHEAD_BYTES, Copy, Kept
from leasehold._unkept import LIMIT, Unkept, Way
from leasehold.page import PageMetadata
from leasehold.v1 import coordinator_pb2 as pb


def copy(size_bytes: int = 0, generation: int = 1) -> Copy:
    """One that takes so much in all."""
    body = b"x" * max(size_bytes - OVERHEAD_BYTES, 0)
    return Copy(generation, PageMetadata(), body, born=0.0, seen=0.0)


def it_keeps_no_more_than_its_limit_and_drops_what_was_not_used_for_longest() -> None:
    kept = Kept(3000)
    for key in "abc":
        kept.put(key, copy(1000), kept.epoch)
    assert kept.get("a") is not None
    kept.put("d", copy(1000), kept.epoch)
    assert [key for key in "abcd" if kept.get(key) is not None] == ["a", "c", "d"]
    kept.put("large", copy(3001), kept.epoch)
    assert kept.get("large") is None
    kept.put("half", copy(2000), kept.epoch)
    assert [key for key in ("a", "c", "d", "half") if kept.get(key) is not None] == ["d", "half"]


def it_keeps_the_newer_of_two() -> None:
    kept = Kept(3000)
    kept.put("a", copy(1000, generation=2), kept.epoch)
    kept.put("a", copy(1000, generation=1), kept.epoch)
    newest = kept.get("a")
    assert newest is not None
    assert newest.generation == 2
    for _ in range(5):
        kept.put("a", copy(1000, generation=3), kept.epoch)
    kept.put("b", copy(2000), kept.epoch)
    assert kept.get("a") is not None


@pytest.mark.parametrize("forget", [lambda kept: kept.forget("a"), lambda kept: kept.forget_all()])
def it_takes_back_nothing_that_was_asked_for_before_it_was_forgotten(forget: Callable[[Kept], None]) -> None:
    kept = Kept(3000)
    asked = kept.epoch
    kept.put("a", copy(), asked)
    forget(kept)
    assert kept.get("a") is None
    kept.put("a", copy(), asked)
    assert kept.get("a") is None
    kept.put("a", copy(), kept.epoch)
    assert kept.get("a") is not None


def it_asks_a_coordinator_that_is_away_once_in_a_while() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.admit(10.0) is Admission.USUAL
        breaker.failed(10.0)
    assert breaker.admit(10.0) is Admission.NO
    trial = 10.0 + OPEN_SECONDS
    assert breaker.admit(trial) is Admission.TRIAL
    assert breaker.admit(trial) is Admission.NO
    breaker.succeeded()
    assert breaker.admit(trial) is Admission.USUAL
    # The longest that its return can go unnoticed.
    assert OPEN_SECONDS + TRIAL_SECONDS < 1


def it_lets_single_failures_pass() -> None:
    breaker = Breaker()
    for _ in range(10 * FAILURES_TO_OPEN):
        breaker.failed(10.0)
        breaker.succeeded()
        assert breaker.admit(10.0) is Admission.USUAL


def it_remembers_for_a_while_and_of_so_many_what_is_not_kept() -> None:
    now = 0.0
    unkept = Unkept(10.0, lambda: now)

    def way() -> Way:
        with unkept.way("a") as way:
            return way

    assert way() is Way.USUAL
    unkept.remember("a")
    assert way() is Way.AT_ONCE
    now = 10.0
    with unkept.way("a") as finding_out:
        assert finding_out is Way.FINDING_OUT
        assert way() is Way.AT_ONCE
    assert way() is Way.FINDING_OUT
    now = 20.0
    assert way() is Way.USUAL
    for number in range(2 * LIMIT):
        unkept.remember(str(number))
    assert sum(unkept.is_known(str(number)) for number in range(2 * LIMIT)) == LIMIT


def it_presents_the_token_of_its_own_invalidations(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    def invalidated(_request: object, _context: object) -> pb.InvalidateResponse:
        return pb.InvalidateResponse(consistency_token="c1-7")

    scripted = script(missing)
    scripted.by_method.update(AcquireLease=ended, Invalidate=invalidated)
    coordinator = connect(scripted.address)
    data, pages = api.data(coordinator), api.pages(coordinator)
    policy = Policy.blocking(60)

    def visit() -> None:
        pages.serve(EntryRef("k"), policy, lambda _: Rendered(body="page"))

    visit()
    assert {request.consistency_token for request in scripted.requests} == {""}
    scripted.requests.clear()
    data.invalidate("other")
    scripted.requests.clear()
    visit()
    assert {request.consistency_token for request in scripted.requests} == {"c1-7"}
    assert {type(request) for request in scripted.requests} == {pb.LookupRequest, pb.AcquireLeaseRequest}


def it_spares_itself_the_body_that_it_has(
    api: Api, script: Callable[..., Scripted], connect: Callable[..., Coordinator]
) -> None:
    page = pb.Page(generation=7, metadata=pb.PageMetadata(status=200), inline=b"body")
    unchanged = pb.Page(generation=7, metadata=pb.PageMetadata(status=200), body_unchanged=True)
    scripted = script(
        lambda _request, _context: pb.LookupResponse(fresh=pb.FreshPage(page=page)),
        lambda _request, _context: pb.LookupResponse(fresh=pb.FreshPage(page=unchanged)),
    )
    pages = api.pages(connect(scripted.address))
    for _ in range(2):
        served = pages.serve(EntryRef("k"), Policy.blocking(60), lambda _: Rendered(body="rendered"))
        assert (served.state, served.body) == (State.HIT, b"body")
    first, second = scripted.requests
    assert not first.HasField("known_generation")
    assert second.known_generation == 7
