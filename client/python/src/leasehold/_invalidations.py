"""The invalidations that this process made itself."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

from leasehold.ids import ConsistencyToken


class Invalidations:
    """What all questions present: whoever has invalidated sees that. Several may be under way at a time, and are answered in
    any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: ConsistencyToken | None = None
        self._answers = 0

    @property
    def token(self) -> ConsistencyToken | None:
        """Of the latest one that was answered."""
        with self._lock:
            return self._token

    async def make(self, call: Callable[[], Awaitable[ConsistencyToken]]) -> ConsistencyToken:
        with self._lock:
            answers_before = self._answers
        token = await call()
        with self._lock:
            # One that began when all others were answered is later than they are, even where its position is not: then the
            # log has begun anew, and the token of the old one would be refused, and nothing be seen of this one.
            is_after_all = answers_before == self._answers
            if is_after_all or self._token is None or _place(token) > _place(self._token):
                self._token = token
            self._answers += 1
        return token

    def forget(self, unknown: ConsistencyToken) -> None:
        """A coordinator did not know it: its log is another one. Whatever was invalidated since is not concerned."""
        with self._lock:
            if self._token == unknown:
                self._token = None


def _place(token: ConsistencyToken) -> tuple[int, str]:
    """By this tokens are ordered, as the contract promises."""
    return len(token), token
