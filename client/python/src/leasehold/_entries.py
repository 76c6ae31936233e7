"""Entries as a worker's runtime goes about them: what is current, with its body."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from leasehold._core import Core, collect
from leasehold._guard import Guard, Rejected, Terms, Unreachable
from leasehold._kept import Copy, Kept
from leasehold._lease import CoreLease
from leasehold.entry import EntryRef
from leasehold.errors import Reason
from leasehold.ids import ConsistencyToken
from leasehold.invalidation import Depth, Scope
from leasehold.outcomes import BackingOff, Commit, Ended, Granted, Held, NewPage, Ready
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


class Entries:
    """Asks about entries, and keeps the last known copies of what it was told."""

    def __init__(self, core: Core, kept_bytes: int) -> None:
        self.core = core
        self.guard: Guard = core.guard
        self.kept = Kept(kept_bytes)
        self._refreshing: set[str] = set()
        self._lock = threading.Lock()

    async def lookup(
        self, key: str, entry: EntryRef, consistency: Consistency
    ) -> tuple[FreshPage | StalePage | MissingPage, Copy | None]:
        """What is current, and its copy. Like all that asks here, ``Unreachable`` or ``Rejected``."""
        epoch, known = self.kept.epoch, self.kept.get(key)

        async def question(terms: Terms) -> FreshPage | StalePage | MissingPage:
            generation = None if known is None else known.generation
            reply = await self.core.lookup(
                entry, consistency, terms.token, BodyDelivery.INLINE, generation, terms.limits
            )
            return reply.outcome

        outcome = await self.guard.ask(question)
        if isinstance(outcome, MissingPage):
            self.kept.missing(key, epoch)
            return outcome, None
        return outcome, await self.copy(key, entry, outcome.page, epoch, known)

    async def acquire(
        self, entry: EntryRef, ttl_seconds: float | None, wait_seconds: float, body: BodyDelivery
    ) -> Granted[CoreLease] | Ready | Held | BackingOff | Ended:
        """As the coordinator answers."""

        async def question(terms: Terms) -> Granted[CoreLease] | Ready | Held | BackingOff | Ended:
            return await self.core.acquire(
                entry, ttl_seconds, wait_seconds, terms.token, body, limits=terms.limits
            )

        return await self.guard.ask(question)

    async def copy(
        self, key: str, entry: EntryRef, page: Page, epoch: int, known: Copy | None = None
    ) -> Copy | None:
        """The page with its body, which is fetched where it did not come along. ``None``: it is gone by now."""
        born = self.core.io.now() - page.age_seconds
        match page.body:
            case Inline(data=body):
                copy = Copy(page.generation, page.metadata, body, born)
            case Unchanged() if known is not None:
                copy = Copy(page.generation, page.metadata, known.body, born)
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
            page = current.page
            born = self.core.io.now() - page.age_seconds
            return Copy(page.generation, page.metadata, await collect(body, MAX_BODY_BYTES), born)

        try:
            return await self.guard.ask(question)
        except Rejected as error:
            if error.cause.reason is Reason.PAGE_NOT_FOUND:
                return None
            raise

    async def commit(self, lease: CoreLease, page: NewPage) -> Commit | Unreachable | Rejected:
        """What became of it: nothing is raised, for whoever has rendered has something to serve."""
        try:
            return await self.guard.tell(lambda limits: lease.commit(page, limits))
        except Unreachable as error:
            return error
        except Rejected as error:
            await self.give_back(lease, None)
            return error

    async def give_back(self, lease: CoreLease, failure: str | None) -> None:
        """In the background, for nobody waits for it, and what goes wrong with it is no concern of a visitor's: the lease
        then expires."""

        async def give_back() -> None:
            try:
                await self.guard.tell(lambda limits: lease.give_back(failure, limits))
            except (Unreachable, Rejected) as error:
                _log.warning("lease not given back: generation=%d error=%s", lease.generation, error)

        if not self.core.io.spawn(give_back):
            await give_back()

    async def invalidate(self, scopes: tuple[Scope, ...], depth: Depth) -> ConsistencyToken:
        """All later questions of this process see it."""
        return await self.guard.invalidate(scopes, depth)

    def refresh(self, key: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """In the background; once at a time for each key."""
        with self._lock:
            if key in self._refreshing:
                return
            self._refreshing.add(key)

        async def refresh() -> None:
            try:
                await work()
            except Unreachable as error:
                _log.debug("not refreshed in the background: the coordinator is unreachable: %s", error)
            except Rejected as error:
                _log.warning("not refreshed in the background: %s", error)
            finally:
                with self._lock:
                    self._refreshing.discard(key)

        if not self.core.io.spawn(refresh):
            with self._lock:
                self._refreshing.discard(key)
