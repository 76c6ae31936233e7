"""Data, once for threads and for asyncio."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from leasehold import _arguments
from leasehold._core import Core
from leasehold._entries import ROUNDS, Entries
from leasehold._guard import Rejected, Unreachable
from leasehold._kept import Copy
from leasehold._lease import CoreLease, failure_of
from leasehold._unkept import Way
from leasehold.entry import EntryRef
from leasehold.errors import ConfigurationError, Reason, RegenerationPaused
from leasehold.ids import ConsistencyToken
from leasehold.invalidation import Depth, Key, Scope, Tag
from leasehold.outcomes import (
    BackingOff,
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

_log = logging.getLogger("leasehold")

Fetch = Callable[[], Awaitable[Any]]
OnRefreshError = Callable[[str, Exception], None]

# What `encodeURIComponent` leaves as it is, so that every language gives a value the same key.
_UNQUOTED = "!'()*-._~"
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,128}")

REMEMBER_UNKEPT_SECONDS = 10.0
"""For so long after a value was refused, such as one that is too large, nobody waits for it."""
LEAST_STALE_SECONDS = 60.0
STALE_TTLS = 10.0


@dataclass(frozen=True)
class Value:
    """A value that counts."""

    value: Any


@dataclass(frozen=True)
class Overtaken:
    """Another's value counts."""

    mine: Value | None
    """What was fetched for nothing."""


@dataclass(frozen=True)
class Job:
    """What a caller asks for."""

    key: str
    entry: EntryRef
    ttl_seconds: float
    fetch: Fetch


class CoreData:
    """See ``Data``."""

    def __init__(
        self,
        core: Core,
        tenant: str,
        namespace: str,
        max_stale_seconds: float | None,
        wait_seconds: float,
        kept_bytes: int,
        kept_seconds: float,
        on_refresh_error: OnRefreshError | None,
    ) -> None:
        _arguments.text("tenant", tenant)
        _arguments.text("namespace", namespace)
        _arguments.optional_seconds("max_stale_seconds", max_stale_seconds)
        _arguments.seconds("wait_seconds", wait_seconds)
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"a namespace is 1 to 128 letters, digits, '.', '_' or '-', not {namespace!r}"
            )
        if max_stale_seconds is not None and max_stale_seconds < 0:
            raise ConfigurationError("max_stale_seconds must not be negative")
        self._entries = Entries(core, kept_bytes, kept_seconds, REMEMBER_UNKEPT_SECONDS)
        self._core = core
        self._tenant = tenant
        self._namespace = namespace
        self._max_stale_seconds = max_stale_seconds
        self._wait_seconds = wait_seconds
        self._on_refresh_error = on_refresh_error

    @property
    def _tag(self) -> str:
        return f"~data/{self._namespace}"

    def _entry(self, key: str) -> EntryRef:
        """Begins as derived keys do, which some tables insist on; and without the question mark that each of them has,
        so that no page's key is ever the same."""
        _arguments.text("key", key)
        name = f"{self._tenant or 'default'}::/~data/{self._namespace}/{quote(key, safe=_UNQUOTED)}"
        return EntryRef(name, tenant=self._tenant)

    def _stale_bound(self, ttl_seconds: float) -> float:
        if self._max_stale_seconds is not None:
            return self._max_stale_seconds
        return max(STALE_TTLS * ttl_seconds, LEAST_STALE_SECONDS)

    def _is_within_bound(self, copy: Copy, ttl_seconds: float) -> bool:
        fresh = copy.metadata.revalidate_seconds
        age = self._core.io.now() - copy.born
        return age <= (ttl_seconds if fresh is None else fresh) + self._stale_bound(ttl_seconds)

    async def with_revalidate(self, key: str, ttl_seconds: float, fetch: Fetch) -> Any:
        _arguments.seconds("ttl_seconds", ttl_seconds)
        if not 0 <= ttl_seconds < float("inf"):
            raise ConfigurationError(f"a ttl is finite and not negative, not {ttl_seconds}")
        job = Job(key, self._entry(key), ttl_seconds, fetch)
        try:
            return (await self._through_coordinator(job)).value
        except Rejected as error:
            if error.cause.reason is not Reason.STORED_DATA_CORRUPT:
                raise error.cause from None
            _log.warning("data not kept: namespace=%s key=%r error=%s", self._namespace, key, error)
        except Unreachable as error:
            _log.debug(
                "data without the coordinator: namespace=%s key=%r error=%s", self._namespace, key, error
            )
        copy = self._entries.last_known(key)
        if copy is not None and self._is_within_bound(copy, ttl_seconds):
            return json.loads(copy.body)
        return (await self._fetched_unkept(job)).value

    async def _through_coordinator(self, job: Job) -> Value:
        with self._entries.unkept.way(job.key) as way:
            return await self._in_rounds(job, way)

    async def _in_rounds(self, job: Job, way: Way) -> Value:
        mine: Value | None = None
        for round_ in range(ROUNDS):
            # Whoever was too late is told of the successor for sure only by a strict answer.
            consistency = Consistency.BOUNDED if round_ == 0 else Consistency.STRICT
            found = await self._entries.lookup(job.key, job.entry, consistency)
            copy = found.copy
            if copy is not None and isinstance(found.outcome, FreshPage):
                return _decoded(copy)
            if copy is not None and self._is_within_bound(copy, job.ttl_seconds):
                if not found.is_rendered and not self._entries.unkept.is_known(job.key):
                    self._entries.refresh(job.key, job.entry, None, lambda lease: self._refresh(job, lease))
                return _decoded(copy)
            if way is Way.AT_ONCE:
                break
            turn = await self._turn(job)
            if isinstance(turn, Value):
                return turn
            mine = turn.mine or mine
        return mine or await self._fetched_unkept(job)

    async def _turn(self, job: Job) -> Value | Overtaken:
        """Waits for one's turn, or for the value of whoever has it."""
        epoch = self._entries.kept.epoch
        match await self._entries.acquire(job.key, job.entry, None, self._wait_seconds, BodyDelivery.INLINE):
            case Granted(lease=lease):
                return await self._core.io.detached(lambda: self._in_turn(job, lease))
            case Ready(current=current):
                copy = await self._entries.copy(job.key, job.entry, current.page, epoch)
                return Overtaken(None) if copy is None else _decoded(copy)
            case Held(previous=previous):
                copy = await self._previous(job, previous, epoch)
                return await self._fetched_unkept(job) if copy is None else _decoded(copy)
            case BackingOff(remaining_seconds=seconds, failures=failures, reason=reason, previous=previous):
                copy = await self._previous(job, previous, epoch)
                if copy is None:
                    raise RegenerationPaused(reason, failures, seconds)
                return _decoded(copy)
            case Ended():
                # The answer to the first attempt was lost, and the lease ended meanwhile.
                return Overtaken(None)

    async def _in_turn(self, job: Job, lease: CoreLease) -> Value | Overtaken:
        epoch = self._entries.kept.epoch
        try:
            return await self._regenerate(job, lease)
        except Exception as error:
            copy = None
            # Where that one is not to be had either, nothing is fetched a second time.
            with suppress(Unreachable, Rejected):
                copy = await self._previous(job, lease.previous, epoch)
            if copy is None:
                raise
            self._report(job.key, error)
            return _decoded(copy)

    async def _previous(self, job: Job, previous: StalePage | None, epoch: int) -> Copy | None:
        if previous is None:
            return None
        copy = await self._entries.copy(job.key, job.entry, previous.page, epoch)
        return copy if copy is not None and self._is_within_bound(copy, job.ttl_seconds) else None

    async def _regenerate(self, job: Job, lease: CoreLease) -> Value | Overtaken:
        """Fetches under a lease, and commits. Raises what the fetch raises, and nothing else."""
        epoch, began = self._entries.kept.epoch, self._core.io.now()
        bound = self._stale_bound(job.ttl_seconds)
        try:
            # Also while the value is on its way.
            async with lease.renewing(None):
                encoded = _encoded(await job.fetch())
                value = Value(json.loads(encoded))
                metadata = PageMetadata(
                    content_type="application/json",
                    revalidate_seconds=job.ttl_seconds,
                    stale_while_revalidate_seconds=bound,
                    stale_if_error_seconds=bound,
                    tags=(self._tag,),
                    render_seconds=self._core.io.now() - began,
                )
                outcome = await self._entries.commit(lease, NewPage(encoded, metadata=metadata))
        except BaseException as error:
            await self._entries.give_back(lease, failure_of(error))
            raise
        match outcome:
            case Committed() | CommittedStale(purged=False):
                copy = Copy(lease.generation, metadata, encoded, began, self._core.io.now())
                self._entries.kept.put(job.key, copy, epoch)
                self._entries.unkept.forget(job.key)
                return value
            case (CommittedStale() | Fenced() | Superseded()) as late:
                if isinstance(late, CommittedStale):
                    # Nor is what was known here before.
                    self._entries.kept.missing(job.key, self._entries.kept.epoch)
                # Invalidated after the fetch began, or another's turn by now: nobody is to see this one.
                return Overtaken(value)
            case Unreachable() | Rejected():
                _log.warning(
                    "data fetched and not kept: namespace=%s key=%r error=%s",
                    self._namespace,
                    job.key,
                    outcome,
                )
                if isinstance(outcome, Rejected):
                    # Nor would the next one be, and all who want it would take turns.
                    self._entries.unkept.remember(job.key, is_refused=True)
                await self._entries.give_up(lease, outcome)
                return value

    async def _refresh(self, job: Job, lease: CoreLease) -> None:
        """In the background, where nobody sees what goes wrong: it is reported."""
        try:
            await self._regenerate(job, lease)
        except Exception as error:
            self._report(job.key, error)

    async def _fetched_unkept(self, job: Job) -> Value:
        return Value(json.loads(_encoded(await job.fetch())))

    def _report(self, key: str, error: Exception) -> None:
        _log.warning(
            "data not refreshed: namespace=%s key=%r error=%s: %s",
            self._namespace,
            key,
            type(error).__name__,
            error,
        )
        if self._on_refresh_error is not None:
            try:
                self._on_refresh_error(key, error)
            except Exception:
                _log.exception("on_refresh_error failed")

    async def invalidate(self, key: str) -> ConsistencyToken:
        name = self._entry(key).name
        assert isinstance(name, str)
        return await self._invalidated(Key(name, self._tenant), lambda: self._entries.forget(key))

    async def invalidate_all(self) -> ConsistencyToken:
        return await self._invalidated(Tag(self._tag, self._tenant), self._entries.forget_all)

    async def _invalidated(self, scope: Scope, forget: Callable[[], None]) -> ConsistencyToken:
        forget()
        try:
            return await self._entries.invalidate((scope,), Depth.HARD)
        finally:
            # Once more: what was asked for meanwhile may have been answered from before.
            forget()


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _decoded(copy: Copy) -> Value:
    return Value(json.loads(copy.body))
