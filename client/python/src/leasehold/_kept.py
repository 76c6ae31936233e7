"""The last known copies of a process: what is served when the coordinator cannot be asked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from leasehold.page import PageMetadata

OVERHEAD_BYTES = 512
"""What a copy takes beside its body, roughly."""


@dataclass(frozen=True)
class Copy:
    """A page or value as it was last known."""

    generation: int
    metadata: PageMetadata
    body: bytes
    born: float
    """When its render began, by this process's clock."""
    seen: float
    """When the coordinator was last heard of it, likewise: what was invalidated since is not known here."""

    @property
    def size_bytes(self) -> int:
        return OVERHEAD_BYTES + len(self.body) + sum(len(n) + len(v) for n, v in self.metadata.headers)


class Kept:
    """Bounded by bytes; the copy that was not used for the longest time goes first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._lock = threading.Lock()
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """Raised when copies are forgotten: what was asked for before that must not be put back after it."""
        return self._epoch

    def get(self, key: str) -> Copy | None:
        with self._lock:
            copy = self._copies.get(key)
            if copy is not None:
                self._copies.move_to_end(key)
            return copy

    def put(self, key: str, copy: Copy, epoch: int) -> None:
        with self._lock:
            known = self._copies.get(key)
            if epoch != self._epoch or (known is not None and known.generation > copy.generation):
                return
            self._drop(key)
            if copy.size_bytes > self._limit_bytes:
                return
            self._copies[key] = copy
            self._size_bytes += copy.size_bytes
            while self._size_bytes > self._limit_bytes:
                self._drop(next(iter(self._copies)))

    def missing(self, key: str, epoch: int) -> None:
        """The coordinator says that there is none, and was asked in this epoch."""
        with self._lock:
            if epoch == self._epoch:
                self._drop(key)

    def forget(self, key: str) -> None:
        with self._lock:
            self._epoch += 1
            self._drop(key)

    def forget_all(self) -> None:
        with self._lock:
            self._epoch += 1
            self._copies.clear()
            self._size_bytes = 0

    def _drop(self, key: str) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self._size_bytes -= copy.size_bytes
