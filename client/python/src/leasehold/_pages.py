"""Pages, once for threads and for asyncio."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

import grpc

from leasehold import _arguments, _headers, _visitor
from leasehold._core import Core
from leasehold._entries import ROUNDS, Entries
from leasehold._guard import Rejected, Unreachable
from leasehold._headers import Served
from leasehold._kept import Copy
from leasehold._lease import CoreLease, failure_of
from leasehold._unkept import Way
from leasehold.entry import EntryRef
from leasehold.errors import ConfigurationError, Reason, Refusal, Refused, RegenerationPaused
from leasehold.ids import ConsistencyToken
from leasehold.invalidation import Depth, Scope
from leasehold.outcomes import (
    BackingOff,
    Commit,
    Committed,
    CommittedStale,
    Ended,
    Fenced,
    Granted,
    Held,
    NewPage,
    Ready,
    Superseded,
)
from leasehold.page import BodyDelivery, Consistency, FreshPage, PageMetadata, StalePage
from leasehold.policy import OnContention, OnFailure, Policy
from leasehold.response import Rendered, Rendering, Response, State

_log = logging.getLogger("leasehold")

Render = Callable[[Rendering], Awaitable[Rendered | str | bytes]]
OnRefreshError = Callable[[EntryRef, Exception], None]


@dataclass(frozen=True)
class Job:
    """What a visitor asks for."""

    key: str
    entry: EntryRef
    policy: Policy
    render: Render


@dataclass(frozen=True)
class Overtaken:
    """The page of this generation was rendered for nothing: another's counts."""

    generation: int
    mine: Served | None


class CorePages:
    """See ``Pages``."""

    def __init__(
        self,
        core: Core,
        state_header: str,
        kept_bytes: int,
        kept_seconds: float,
        remember_unkept_seconds: float,
        on_refresh_error: OnRefreshError | None,
    ) -> None:
        if not state_header or not all(c.isascii() and (c.isalnum() or c in "-_") for c in state_header):
            raise ConfigurationError(f"not the name of a header: {state_header!r}")
        self._core = core
        self._entries = Entries(core, kept_bytes, kept_seconds, remember_unkept_seconds)
        self._state_header = state_header.lower()
        self._on_refresh_error = on_refresh_error

    @property
    def state_header(self) -> str:
        return self._state_header

    async def serve(
        self, entry: EntryRef, policy: Policy, render: Render, if_none_match: str | None
    ) -> Response:
        _arguments.of("entry", entry, EntryRef)
        _arguments.of("policy", policy, Policy)
        if _visitor.crosses_tenants(entry):
            # The coordinator would refuse it too, if it could be asked.
            raise Refused(_CROSSES_TENANTS)
        job = Job(_visitor.local_key(entry), entry, policy, render)
        try:
            served = await self._through_coordinator(job)
        except Unreachable as error:
            _log.info("page without the coordinator: %s error=%s", _visitor.label(entry), error)
            served = await self._without_coordinator(job)
        except Rejected as error:
            # Whose page it is, is not known: nothing may be served.
            if error.cause.reason is Reason.TENANT_BOUNDARY:
                raise error.cause from None
            _log.warning("page not kept: %s error=%s", _visitor.label(entry), error)
            served = await self._bypass(job, "refused")
        is_personal, vary = _visitor.is_personal(entry), _visitor.chosen_tenant_headers(entry)
        served = replace(served, is_personal=is_personal, vary=vary)
        return _headers.response(served, policy, self._state_header, if_none_match)

    async def _through_coordinator(self, job: Job) -> Served:
        entries = self._entries
        found = await entries.lookup(job.key, job.entry, Consistency.BOUNDED)
        outcome, copy = found.outcome, found.copy
        forwarded_for, may_serve_stale = "miss", False
        previous = outcome if isinstance(outcome, StalePage) else None
        if copy is not None and isinstance(outcome, FreshPage):
            return self._of_copy(State.HIT, copy)
        if copy is not None and isinstance(outcome, StalePage):
            forwarded_for = "stale"
            if self._is_within_window(outcome, copy, job.policy):
                if not found.is_rendered and not entries.unkept.is_known(job.key):
                    ttl_seconds = job.policy.lease_ttl_seconds
                    entries.refresh(job.key, job.entry, ttl_seconds, lambda lease: self._refresh(job, lease))
                return self._of_copy(State.STALE, copy)
            may_serve_stale = self._is_within_bounds(outcome, copy, job.policy)
        with entries.unkept.way(job.key) as way:
            if way is Way.AT_ONCE:
                return await self._at_once(job, previous)
            for _ in range(ROUNDS):
                try:
                    turn = await self._turn(job, forwarded_for, may_serve_stale)
                except Unreachable:
                    # What it waited for is no page.
                    if entries.unkept.is_known(job.key):
                        return await self._at_once(job, previous)
                    raise
                if isinstance(turn, Served):
                    return turn
                # This worker slept, and another took over: its page counts, as soon as it is there.
                newer = await self._newer(job, turn, forwarded_for)
                if newer is not None:
                    return newer
        return await self._bypass(job, "overtaken")

    async def _at_once(self, job: Job, previous: StalePage | None) -> Served:
        """For one visitor only, as those before."""
        epoch = self._entries.kept.epoch
        try:
            served = await self._bypass(job, "not-kept")
            if served.status < 500:
                return served
        except Exception:
            # It is for the coordinator to say who tries again, and when.
            self._entries.unkept.forget(job.key)
            instead = await self._instead(job, previous, "render-failed", epoch)
            if instead is None:
                raise
            return instead
        self._entries.unkept.forget(job.key)
        return await self._instead(job, previous, "render-failed", epoch) or served

    async def _newer(self, job: Job, turn: Overtaken, forwarded_for: str) -> Served | None:
        """The page of whoever took over, or else what was rendered for nothing."""
        try:
            found = await self._entries.lookup(job.key, job.entry, Consistency.STRICT)
        except (Unreachable, Rejected):
            if turn.mine is None:
                raise
            return turn.mine
        outcome, copy = found.outcome, found.copy
        if copy is not None and isinstance(outcome, FreshPage) and copy.generation > turn.generation:
            return self._of_copy(State.WAIT_HIT, copy, forwarded_for)
        if copy is not None and copy.generation > turn.generation:
            return self._of_copy(State.STALE, copy)
        return turn.mine

    async def _turn(self, job: Job, forwarded_for: str, may_serve_stale: bool) -> Served | Overtaken:
        """Waits for one's turn, or for the page of whoever has it."""
        epoch, policy = self._entries.kept.epoch, job.policy
        # Where nothing stale may be served, all who do not wait would render.
        serves_stale = may_serve_stale and policy.on_contention is OnContention.SERVE_STALE
        waits = policy.wait_seconds > 0 and not serves_stale
        wait_seconds = policy.wait_seconds if waits else 0.0
        match await self._entries.acquire(
            job.key, job.entry, policy.lease_ttl_seconds, wait_seconds, BodyDelivery.INLINE
        ):
            case Granted(lease=lease):
                return await self._core.io.detached(lambda: self._in_turn(job, lease, forwarded_for))
            case Ready(current=current):
                copy = await self._entries.copy(job.key, job.entry, current.page, epoch)
                state = State.WAIT_HIT if waits else State.HIT
                return Overtaken(0, None) if copy is None else self._of_copy(state, copy, forwarded_for)
            case Held(previous=previous):
                if previous is not None:
                    copy = await self._entries.copy(job.key, job.entry, previous.page, epoch)
                    if copy is not None and self._is_within_bounds(previous, copy, job.policy):
                        return self._of_copy(State.STALE, copy, detail="held")
                return await self._bypass(job, "held")
            case BackingOff(remaining_seconds=seconds, failures=failures, reason=reason, previous=previous):
                served = await self._instead(job, previous, "backing-off", epoch)
                if served is None:
                    raise RegenerationPaused(reason, failures, seconds)
                return served
            case Ended():
                # The answer to the first attempt was lost, and the lease ended meanwhile.
                return Overtaken(0, None)

    async def _in_turn(self, job: Job, lease: CoreLease, forwarded_for: str) -> Served | Overtaken:
        epoch = self._entries.kept.epoch
        try:
            return await self._regenerate(job, lease, forwarded_for)
        except _RenderedFailure as failure:
            served = await self._instead(job, lease.previous, "render-failed", epoch)
            return served or self._of_rendered(State.BYPASS, failure.rendered, detail="render-failed")
        except Exception as error:
            served = await self._instead(job, lease.previous, "render-failed", epoch)
            if served is None:
                raise
            _log.warning(
                "page not rendered: %s error=%s: %s", _visitor.label(job.entry), type(error).__name__, error
            )
            return served

    async def _instead(self, job: Job, previous: StalePage | None, detail: str, epoch: int) -> Served | None:
        """The previous page, where the policy allows that after a failure."""
        if previous is None or job.policy.on_failure is not OnFailure.SERVE_STALE:
            return None
        try:
            copy = await self._entries.copy(job.key, job.entry, previous.page, epoch)
        except (Unreachable, Rejected):
            return None
        if copy is None or not self._is_within_error_window(previous, copy, job.policy):
            return None
        return self._of_copy(State.STALE, copy, detail=detail)

    async def _regenerate(self, job: Job, lease: CoreLease, forwarded_for: str) -> Served | Overtaken:
        """Renders under a lease, and commits. Raises what the render raises, and ``_RenderedFailure``."""
        entries = self._entries
        epoch, began, policy = entries.kept.epoch, self._core.io.now(), job.policy
        outcome: Commit | Unreachable | Rejected | None = None
        try:
            # Also while the page is on its way.
            async with lease.renewing(policy.lease_ttl_seconds):
                rendered = page_of(await job.render(Rendering(lease.generation, lease.sidecar_token)))
                if rendered.status >= 500:
                    raise _RenderedFailure(rendered)
                metadata, body = self._metadata(rendered, policy, began), rendered.body_bytes
                # Before the lease is given back: else whoever waits here for it would be the next one to be granted it.
                if self._learn(job, rendered, epoch):
                    outcome = await entries.commit(lease, NewPage(body, rendered.sidecar, metadata))
        except BaseException as error:
            is_status = isinstance(error, _RenderedFailure)
            await entries.give_back(lease, str(error) if is_status else failure_of(error))
            raise
        match outcome:
            case None:
                await entries.give_back(lease, None)
                return self._of_rendered(State.BYPASS, rendered, detail="not-kept")
            case Committed(etag=etag):
                committed = replace(metadata, etag=etag)
                now = self._core.io.now()
                entries.kept.put(job.key, Copy(lease.generation, committed, body, began, now), epoch)
                entries.unkept.forget(job.key)
                return self._of_rendered(State.MISS, rendered, committed, forwarded_for)
            case CommittedStale(purged=True):
                # Nor is what was known here before.
                entries.kept.missing(job.key, entries.kept.epoch)
                return self._of_rendered(State.BYPASS, rendered, detail="purged")
            case CommittedStale(etag=etag):
                # Invalidated after the render began: good enough for this visitor, and to be asked for again.
                committed = replace(metadata, etag=etag)
                return self._of_rendered(State.STALE, rendered, committed, forwarded_for, "invalidated")
            case Superseded(current_generation=newer) | Fenced(latest_generation=newer):
                label = _visitor.label(job.entry)
                _log.info("committed too late: %s generation=%d latest=%d", label, lease.generation, newer)
                mine = self._of_rendered(State.BYPASS, rendered, detail="overtaken")
                return Overtaken(lease.generation, mine)
            case (Unreachable() | Rejected()) as problem:
                _log.warning("page rendered and not kept: %s error=%s", _visitor.label(job.entry), problem)
                is_refused = isinstance(problem, Rejected)
                if is_refused:
                    # Nor would it be the next time, and they would all take turns.
                    entries.unkept.remember(job.key, is_refused=True)
                await entries.give_up(lease, problem)
                detail = "refused" if is_refused else "unreachable"
                return self._of_rendered(State.BYPASS, rendered, detail=detail)

    def _learn(self, job: Job, rendered: Rendered, epoch: int) -> bool:
        """Whether it is for everybody, which is remembered; though not of what an invalidation has overtaken."""
        unkept = self._entries.unkept
        is_kept = _headers.may_be_kept(rendered, lambda by: _visitor.tells_apart(job.entry, by))
        if is_kept:
            unkept.came_out(job.key)
        elif epoch == self._entries.kept.epoch:
            unkept.remember(job.key)
        return is_kept

    def _metadata(self, rendered: Rendered, policy: Policy, began: float) -> PageMetadata:
        return PageMetadata(
            status=rendered.status,
            content_type=rendered.content_type,
            headers=_headers.kept_headers(rendered.headers),
            etag=rendered.etag,
            revalidate_seconds=policy.revalidate_seconds,
            stale_while_revalidate_seconds=policy.window_seconds,
            stale_if_error_seconds=policy.error_window_seconds,
            tags=rendered.tags,
            render_seconds=self._core.io.now() - began,
        )

    async def _refresh(self, job: Job, lease: CoreLease) -> None:
        """In the background, where nobody sees what goes wrong: it is reported."""
        try:
            await self._regenerate(job, lease, "stale")
        except Exception as error:
            self._report(job.entry, error)

    async def _without_coordinator(self, job: Job) -> Served:
        copy = self._entries.last_known(job.key)
        if copy is not None:
            return self._of_copy(State.STALE_METADATA_ERROR, copy, detail="unreachable")
        return await self._bypass(job, "unreachable")

    async def _bypass(self, job: Job, detail: str) -> Served:
        epoch = self._entries.kept.epoch
        rendered = page_of(await job.render(Rendering()))
        if rendered.status < 500:
            self._learn(job, rendered, epoch)
        return self._of_rendered(State.BYPASS, rendered, detail=detail)

    def _of_copy(
        self, state: State, copy: Copy, forwarded_for: str = "stale", detail: str | None = None
    ) -> Served:
        return Served(
            state,
            copy.metadata.status,
            copy.metadata.content_type or "text/html; charset=utf-8",
            copy.metadata.headers,
            copy.body,
            copy.metadata.etag,
            self._ttl_seconds(copy),
            forwarded_for,
            detail,
            self._core.io.now() - copy.born,
        )

    def _of_rendered(
        self,
        state: State,
        rendered: Rendered,
        committed: PageMetadata | None = None,
        forwarded_for: str = "miss",
        detail: str | None = None,
    ) -> Served:
        headers = _headers.kept_headers(rendered.headers)
        etag = None if committed is None else committed.etag
        status, content_type, body = rendered.status, rendered.content_type, rendered.body_bytes
        return Served(state, status, content_type, headers, body, etag, None, forwarded_for, detail)

    def _ttl_seconds(self, copy: Copy) -> float | None:
        fresh = copy.metadata.revalidate_seconds
        return None if fresh is None else fresh - (self._core.io.now() - copy.born)

    def _is_within_window(self, stale: StalePage, copy: Copy, policy: Policy) -> bool:
        if policy.window_seconds is None:
            return False
        left = stale.stale_while_revalidate_for_seconds
        return left > 0 if left is not None else self._is_within(copy, policy, policy.window_seconds)

    def _is_within_bounds(self, previous: StalePage, copy: Copy, policy: Policy) -> bool:
        """Whether it may be served while another renders the next one. Who waits for that by policy has no bound for what
        comes instead; who is served stale pages has."""
        return (
            policy.window_seconds is None
            or self._is_within_window(previous, copy, policy)
            or self._is_within_error_window(previous, copy, policy)
        )

    def _is_within_error_window(self, stale: StalePage, copy: Copy, policy: Policy) -> bool:
        left = stale.stale_if_error_for_seconds
        return left > 0 if left is not None else self._is_within(copy, policy, policy.error_window_seconds)

    def _is_within(self, copy: Copy, policy: Policy, window_seconds: float) -> bool:
        return self._core.io.now() - copy.born <= policy.revalidate_seconds + window_seconds

    def _report(self, entry: EntryRef, error: Exception) -> None:
        label = _visitor.label(entry)
        _log.warning("page not refreshed: %s error=%s: %s", label, type(error).__name__, error)
        if self._on_refresh_error is not None:
            try:
                self._on_refresh_error(entry, error)
            except Exception:
                _log.exception("on_refresh_error failed")

    async def invalidate(self, scopes: tuple[Scope, ...], depth: Depth) -> ConsistencyToken:
        self._entries.forget_all()
        try:
            return await self._entries.invalidate(scopes, depth)
        finally:
            # Once more: what was asked for meanwhile may have been answered from before.
            self._entries.forget_all()


def page_of(answer: object) -> Rendered:
    """What a render answered. ``InvalidArgument`` for what is no page."""
    match answer:
        case Rendered():
            return answer
        case str() | bytes():
            return Rendered(body=answer)
        case _:
            wanted = "answer a Rendered, str or bytes"
            if isinstance(answer, Coroutine):
                answer.close()
                wanted += " (an async one is for AsyncPages)"
            _arguments.refuse("render", wanted, answer)


_CROSSES_TENANTS = Refusal(
    grpc.StatusCode.FAILED_PRECONDITION,
    Reason.TENANT_BOUNDARY,
    Reason.TENANT_BOUNDARY.value,
    "the request is meant for a tenant, and none is declared",
)


class _RenderedFailure(Exception):
    """A page of status 500 or more."""

    def __init__(self, rendered: Rendered) -> None:
        super().__init__(f"status {rendered.status}")
        self.rendered = rendered
