"""Which pages came out as one visitor's only: what Varnish calls hit-for-miss.

Such a page is never committed. Were each of its visitors to take the lease, they would be rendered one after the other in the
whole fleet, and those who wait would wait for a page that never comes. So those after it are rendered for at once, without the
lease, until a page comes out for everybody: that one is not committed either, but the next one takes the usual way.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum

from leasehold._io import Interruption

LIMIT = 4096
"""Entries beyond so many are forgotten, the least used ones first: they take the usual way."""


class Way(Enum):
    """How a visitor's page is to be rendered."""

    USUAL = 1
    """Under the lease."""
    FINDING_OUT = 2
    """Under the lease, and while it lasts the others go on without it: nobody waits for what may be no page."""
    AT_ONCE = 3
    """Without."""


@dataclass(frozen=True)
class _Known:
    until: float
    is_tried: bool = False
    """Somebody takes the usual way, to find out."""
    is_refused: bool = False
    """The coordinator refused to keep it."""


class Unkept:
    """Remembers them for a while."""

    def __init__(self, span_seconds: float, now: Callable[[], float]) -> None:
        self._span_seconds = span_seconds
        self._now = now
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._waiting: dict[str, set[Interruption]] = {}

    @contextmanager
    def way(self, key: str) -> Iterator[Way]:
        """That of a visitor, for as long as the block lasts."""
        way = self._way(key)
        try:
            yield way
        finally:
            if way is Way.FINDING_OUT:
                with self._lock:
                    if (known := self._known.get(key)) is not None:
                        self._known[key] = replace(known, is_tried=False)

    def _way(self, key: str) -> Way:
        now = self._now()
        with self._lock:
            known = self._known.get(key)
            if known is None:
                return Way.USUAL
            self._known.move_to_end(key)
            if now < known.until or known.is_tried:
                return Way.AT_ONCE
            if now >= known.until + self._span_seconds:
                # Too long ago for a crowd of visitors to be rendered for all at once.
                del self._known[key]
                return Way.USUAL
            self._known[key] = replace(known, is_tried=True)
            return Way.FINDING_OUT

    def is_known(self, key: str) -> bool:
        """Whether it is so now."""
        with self._lock:
            return self._is_known(key)

    def _is_known(self, key: str) -> bool:
        known = self._known.get(key)
        return known is not None and self._now() < known.until

    def remember(self, key: str, *, is_refused: bool = False) -> None:
        """A page came out as one visitor's only, or was refused for good. Whoever waits for it here waits no longer."""
        if self._span_seconds <= 0:
            return
        with self._lock:
            self._known[key] = _Known(self._now() + self._span_seconds, is_refused=is_refused)
            self._known.move_to_end(key)
            while len(self._known) > LIMIT:
                self._known.popitem(last=False)
            waiting = list(self._waiting.get(key, ()))
        for interruption in waiting:
            interruption.interrupt()

    def forget(self, key: str) -> None:
        """There is a page for everybody, or it may be that there is."""
        with self._lock:
            self._known.pop(key, None)

    def came_out(self, key: str) -> None:
        """A page for everybody was rendered. One that was refused would be refused again."""
        with self._lock:
            known = self._known.get(key)
            if known is not None and not known.is_refused:
                del self._known[key]

    def forget_all(self) -> None:
        """As ``forget``, of every entry."""
        with self._lock:
            self._known.clear()

    @contextmanager
    def waiting(self, key: str, interruption: Interruption) -> Iterator[None]:
        """While the block lasts, a call waits for a page, which this gives up once it is known that there is none."""
        with self._lock:
            self._waiting.setdefault(key, set()).add(interruption)
            is_known = self._is_known(key)
        if is_known:
            interruption.interrupt()
        try:
            yield
        finally:
            with self._lock:
                waiting = self._waiting[key]
                waiting.discard(interruption)
                if not waiting:
                    del self._waiting[key]
