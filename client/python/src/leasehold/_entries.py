"""Entries as a worker's runtime goes about them: what is current, with its body."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from leasehold import _arguments
from leasehold._core import Core, collect
from leasehold._guard import Guard, Rejected, Terms, Unreachable
from leasehold._io import Interrupted, Interruption
from leasehold._kept import Copy, Kept
from leasehold._lease import CoreLease
from leasehold._unkept import Unkept
from leasehold._visitor import label
from leasehold.entry import EntryRef
from leasehold.errors import ConfigurationError, Reason
from leasehold.ids import ConsistencyToken, RequestId
from leasehold.invalidation import Depth, Scope
from leasehold.outcomes import BackingOff, Commit, Ended, Granted, Held, LookupReply, NewPage, Ready
from leasehold.page import (
    BodyDelivery,
    Consistency,
    FreshPage,
    Inline,
    MissingPage,
    Page,
    StalePage,
    Unchanged,
)

_log = logging.getLogger("leasehold")

ROUNDS = 3
"""How often a request that is overtaken tries again."""
MAX_BODY_BYTES = 64 << 20
"""No body is larger."""
REMEMBERED_PAUSES = 10_000
"""Of so many entries it is remembered that nobody is granted their lease for a while."""

Acquired = Granted[CoreLease] | Ready | Held | BackingOff | Ended


@dataclass(frozen=True)
class Found:
    """What is current."""

    outcome: FreshPage | StalePage | MissingPage
    copy: Copy | None
    """It, with its body."""
    is_rendered: bool
    """Somebody renders the next one."""


class Entries:
    """Asks about entries, and keeps the last known copies of what it was told."""

    def __init__(
        self, core: Core, kept_bytes: int, kept_seconds: float, remember_unkept_seconds: float
    ) -> None:
        _arguments.seconds("kept_seconds", kept_seconds)
        _arguments.seconds("remember_unkept_seconds", remember_unkept_seconds)
        if not (kept_seconds >= 0 and remember_unkept_seconds >= 0):
            raise ConfigurationError("spans of time must not be negative")
        self.core = core
        self.guard: Guard = core.guard
        self.kept = Kept(kept_bytes)
        self.unkept = Unkept(remember_unkept_seconds, core.io.now)
        self._kept_seconds = kept_seconds
        self._refreshing: set[str] = set()
        self._paused_until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def last_known(self, key: str) -> Copy | None:
        """What is left where the coordinator cannot be asked. Past its time it may have been purged long ago."""
        copy = self.kept.get(key)
        is_known = copy is not None and self.core.io.now() - copy.seen < self._kept_seconds
        return copy if is_known else None

    def forget(self, key: str) -> None:
        """It was invalidated."""
        self.kept.forget(key)
        self.unkept.forget(key)
        with self._lock:
            self._paused_until.pop(key, None)

    def forget_all(self) -> None:
        """They were invalidated, or any of them."""
        self.kept.forget_all()
        self.unkept.forget_all()
        with self._lock:
            self._paused_until.clear()

    async def lookup(self, key: str, entry: EntryRef, consistency: Consistency) -> Found:
        """What is current, and its copy. Like all that asks here, ``Unreachable`` or ``Rejected``."""
        epoch, known = self.kept.epoch, self.kept.get(key)

        async def question(terms: Terms) -> LookupReply:
            generation = None if known is None else known.generation
            return await self.core.lookup(
                entry, consistency, terms.token, BodyDelivery.INLINE, generation, terms.limits
            )

        reply = await self.guard.ask(question)
        outcome, is_rendered = reply.outcome, reply.regeneration is not None
        if isinstance(outcome, MissingPage):
            self.kept.missing(key, epoch)
            return Found(outcome, None, is_rendered)
        if isinstance(outcome, FreshPage):
            self.unkept.forget(key)
        return Found(outcome, await self.copy(key, entry, outcome.page, epoch, known), is_rendered)

    async def acquire(
        self,
        key: str,
        entry: EntryRef,
        ttl_seconds: float | None,
        wait_seconds: float,
        body: BodyDelivery,
    ) -> Acquired:
        """As the coordinator answers. Whoever goes away meanwhile leaves no lease behind. ``Unreachable`` also once it is known
        that the page which another renders is not kept, and when the handle is closed."""
        interruption = Interruption()

        async def question(terms: Terms) -> Acquired:
            request_id = self.core.calls.new_request_id()
            try:
                return await self.core.acquire(
                    entry,
                    ttl_seconds,
                    wait_seconds,
                    terms.token,
                    body,
                    request_id=request_id,
                    limits=terms.limits,
                    interruption=interruption,
                    is_new=True,
                )
            except Interrupted:
                await self._in_background(lambda: self._settle(entry, ttl_seconds, request_id))
                raise

        async def asked() -> Acquired:
            try:
                return await self.guard.ask(question)
            except Interrupted:
                raise Unreachable(None) from None

        async def unheard(acquired: Acquired) -> None:
            if isinstance(acquired, Granted):
                await self.give_back(acquired.lease, None)

        with self.unkept.waiting(key, interruption):
            acquired = await self.core.io.detached(asked, interruption.interrupt, unheard)
        if isinstance(acquired, Ready):
            self.unkept.forget(key)
        return acquired

    async def _settle(self, entry: EntryRef, ttl_seconds: float | None, request_id: RequestId) -> None:
        """The call was given up, and may have been granted the lease: asked again with its request id, the coordinator tells."""
        try:
            acquired = await self.guard.tell(
                lambda limits: self.core.acquire(entry, ttl_seconds, request_id=request_id, limits=limits)
            )
        except (Unreachable, Rejected) as error:
            _log.debug("a lease may be left behind: %s error=%s", label(entry), error)
            return
        if isinstance(acquired, Granted):
            await self.give_back(acquired.lease, None)

    async def copy(
        self, key: str, entry: EntryRef, page: Page, epoch: int, known: Copy | None = None
    ) -> Copy | None:
        """The page with its body, which is fetched where it did not come along. ``None``: it is gone by now."""
        now = self.core.io.now()
        born = now - page.age_seconds
        match page.body:
            case Inline(data=body):
                copy = Copy(page.generation, page.metadata, body, born, now)
            case Unchanged() if known is not None:
                copy = Copy(page.generation, page.metadata, known.body, born, now)
            case _:
                fetched = await self._fetch(entry)
                if fetched is None:
                    return None
                copy = fetched
        self.kept.put(key, copy, epoch)
        return copy

    async def _fetch(self, entry: EntryRef) -> Copy | None:
        async def question(terms: Terms) -> Copy:
            current, body = await self.core.serve_page(entry, Consistency.BOUNDED, terms.token, terms.limits)
            page, now = current.page, self.core.io.now()
            bytes_ = await collect(body, MAX_BODY_BYTES)
            return Copy(page.generation, page.metadata, bytes_, now - page.age_seconds, now)

        try:
            return await self.guard.ask(question)
        except Rejected as error:
            if error.cause.reason is Reason.PAGE_NOT_FOUND:
                return None
            raise

    async def commit(self, lease: CoreLease, page: NewPage) -> Commit | Unreachable | Rejected:
        """What became of it: an outage or a refusal is not raised, for whoever has rendered has something to serve."""
        try:
            return await self.guard.tell(lambda limits: lease.commit(page, limits))
        except (Unreachable, Rejected) as error:
            return error

    async def give_up(self, lease: CoreLease, problem: Unreachable | Rejected) -> None:
        """Its page was not committed: gives it back, unless the page may be there all the same. Whoever comes next need not wait
        for it to expire."""
        if problem.cause is None or not problem.cause.may_have_been_applied:
            await self.give_back(lease, None)

    async def give_back(self, lease: CoreLease, failure: str | None) -> None:
        """In the background, for nobody waits for it, and what goes wrong with it is no concern of a visitor's: the lease
        then expires."""

        async def give_back() -> None:
            try:
                await self.guard.tell(lambda limits: lease.give_back(failure, limits))
            except (Unreachable, Rejected) as error:
                _log.warning(
                    "lease not given back: %s generation=%d error=%s",
                    label(lease.entry),
                    lease.generation,
                    error,
                )

        await self._in_background(give_back)

    async def _in_background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Where there is too much of that already, now."""
        if not self.core.io.spawn(work, is_owed=True):
            await work()

    async def invalidate(self, scopes: tuple[Scope, ...], depth: Depth) -> ConsistencyToken:
        """All later questions of this process see it."""
        return await self.guard.invalidate(scopes, depth)

    def refresh(
        self,
        key: str,
        entry: EntryRef,
        ttl_seconds: float | None,
        work: Callable[[CoreLease], Coroutine[Any, Any, None]],
    ) -> None:
        """In the background, where the lease is granted; once at a time for each key. While nobody is granted it after a failure,
        it is not asked for again."""
        with self._lock:
            if key in self._refreshing or self.core.io.now() < self._paused_until.get(key, 0.0):
                return
            self._refreshing.add(key)

        async def refresh() -> None:
            try:
                match await self.acquire(key, entry, ttl_seconds, 0.0, BodyDelivery.NONE):
                    case Granted(lease=lease):
                        await work(lease)
                    case BackingOff(remaining_seconds=seconds):
                        self._pause(key, seconds)
                    case _:
                        pass
            except Unreachable as error:
                _log.debug("not refreshed without the coordinator: %s error=%s", label(entry), error)
            except Rejected as error:
                _log.warning("not refreshed in the background: %s error=%s", label(entry), error)
            finally:
                with self._lock:
                    self._refreshing.discard(key)

        if not self.core.io.spawn(refresh):
            with self._lock:
                self._refreshing.discard(key)

    def _pause(self, key: str, seconds: float) -> None:
        with self._lock:
            self._paused_until[key] = self.core.io.now() + seconds
            self._paused_until.move_to_end(key)
            while len(self._paused_until) > REMEMBERED_PAUSES:
                self._paused_until.popitem(last=False)
