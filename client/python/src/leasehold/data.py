"""Data that is fetched once for the whole fleet, for threads and for asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from leasehold import _arguments
from leasehold._data import CoreData
from leasehold._io import run_blocking
from leasehold.async_coordinator import AsyncCoordinator
from leasehold.coordinator import Coordinator
from leasehold.ids import ConsistencyToken

T = TypeVar("T")

KEPT_BYTES = 16 << 20
"""What last known copies may take by default: 16 MiB."""

KEPT_SECONDS = 3600.0
"""For how long the last known copy is answered by default, since the coordinator was last heard of it: an hour."""


class Data:
    """Values that are fetched once for the whole fleet, for code that blocks.

    Values are JSON: what ``with_revalidate`` answers is what is left of them after that (tuples become lists), also for
    whoever fetched. All workers with the same tenant and namespace share them. When the coordinator cannot be reached, the
    last copy that this process knows of is answered, within the stale bound, or else a value that is fetched and not kept:
    no outage of the coordinator becomes an error here.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        tenant: str = "",
        namespace: str = "default",
        max_stale_seconds: float | None = None,
        wait_seconds: float = 30.0,
        kept_bytes: int = KEPT_BYTES,
        kept_seconds: float = KEPT_SECONDS,
        on_refresh_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        """``tenant``: whose; empty: ``default``. ``namespace``: 1 to 128 letters, digits, ``.``, ``_`` or ``-``.

        A value is answered stale for ``max_stale_seconds`` beyond its ttl, while it is fetched anew in the background;
        past that, callers wait. ``None``: ten times the ttl, and a minute at least. ``wait_seconds``: how long a caller
        waits at most while another fetches. ``kept_bytes``: what last known copies may take in all; ``kept_seconds``: for how
        long they are answered since the coordinator was last heard of them, for they may have been invalidated since.

        ``on_refresh_error`` is called with the key and what a fetch in the background raised; it is logged as well, to
        the logger ``leasehold``. ``ConfigurationError`` for values that are not allowed.
        """
        _arguments.of("coordinator", coordinator, Coordinator)
        self._core = CoreData(
            coordinator._core,
            tenant,
            namespace,
            max_stale_seconds,
            wait_seconds,
            kept_bytes,
            kept_seconds,
            on_refresh_error,
        )

    def with_revalidate(self, key: str, ttl_seconds: float, fetch: Callable[[], T]) -> T:
        """The value of ``key``, fresh or, within the stale bound, stale; where there is none, from ``fetch``, which runs
        once in the whole fleet while all others wait for it.

        A stale value is fetched anew in the background, on a thread of its own. ``ttl_seconds``: how long a value is
        fresh, counted from when its fetch began; that of whoever fetched it counts. Keys of any text, such that they take
        no more than some 4000 bytes when they are encoded as in a URL.

        Raises what ``fetch`` raises, where there is no value within the bound; ``RegenerationPaused`` for a while after
        that, so that a source that fails is not asked by everybody; ``TypeError`` or ``ValueError`` for a value that is not
        JSON; and what the coordinator refuses, such as a key that is too long.
        """

        async def fetched() -> T:
            return fetch()

        return cast(T, run_blocking(self._core.with_revalidate(key, ttl_seconds, fetched)))

    def invalidate(self, key: str) -> ConsistencyToken:
        """Whoever calls next gets newly fetched data: in this process from now on, elsewhere within the coordinator's tail
        interval (default 200 ms), or at once by the token. Change the data first. Raises ``LeaseholdError`` where it may
        not have been applied; to repeat it is harmless."""
        return run_blocking(self._core.invalidate(key))

    def invalidate_all(self) -> ConsistencyToken:
        """As ``invalidate``, for all keys of this tenant and namespace, and nothing else."""
        return run_blocking(self._core.invalidate_all())


class AsyncData:
    """As ``Data``, for asyncio."""

    def __init__(
        self,
        coordinator: AsyncCoordinator,
        *,
        tenant: str = "",
        namespace: str = "default",
        max_stale_seconds: float | None = None,
        wait_seconds: float = 30.0,
        kept_bytes: int = KEPT_BYTES,
        kept_seconds: float = KEPT_SECONDS,
        on_refresh_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        """As with ``Data``."""
        _arguments.of("coordinator", coordinator, AsyncCoordinator)
        self._core = CoreData(
            coordinator._core,
            tenant,
            namespace,
            max_stale_seconds,
            wait_seconds,
            kept_bytes,
            kept_seconds,
            on_refresh_error,
        )

    async def with_revalidate(self, key: str, ttl_seconds: float, fetch: Callable[[], Awaitable[T]]) -> T:
        """As ``Data.with_revalidate``. A fetch runs as a task of its own: a caller who is cancelled does not end what
        others wait for."""

        async def fetched() -> T:
            return await _arguments.awaited("fetch", fetch())

        return cast(T, await self._core.with_revalidate(key, ttl_seconds, fetched))

    async def invalidate(self, key: str) -> ConsistencyToken:
        """As ``Data.invalidate``."""
        return await self._core.invalidate(key)

    async def invalidate_all(self) -> ConsistencyToken:
        """As ``Data.invalidate_all``."""
        return await self._core.invalidate_all()
