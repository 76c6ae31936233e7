"""Pages that are rendered once for the whole fleet, for threads and for asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from leasehold import _arguments
from leasehold._io import run_blocking
from leasehold._pages import CorePages
from leasehold.async_coordinator import AsyncCoordinator
from leasehold.coordinator import Coordinator
from leasehold.entry import EntryRef
from leasehold.ids import ConsistencyToken
from leasehold.invalidation import Depth, Scope
from leasehold.policy import Policy
from leasehold.response import Rendered, Rendering, Response

DEFAULT_STATE_HEADER = "x-isr-state"
"""The response header that says how a page came about."""

KEPT_BYTES = 64 << 20
"""What last known pages may take by default: 64 MiB."""

KEPT_SECONDS = 3600.0
"""For how long the last known page is served by default, since the coordinator was last heard of it: an hour."""

REMEMBER_UNKEPT_SECONDS = 10.0
"""For how long it is remembered by default that a page is not kept."""


class Pages:
    """Pages that are rendered once for the whole fleet, for code that blocks.

    No outage of the coordinator turns a page that could be rendered into an error: the last page that this process knows
    of is served, or one that is rendered and not kept. After three failures in a row the coordinator is left alone, but
    for one question each quarter of a second. All handles made of one ``Coordinator`` share this, and the consistency
    token of what they invalidated.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        state_header: str = DEFAULT_STATE_HEADER,
        kept_bytes: int = KEPT_BYTES,
        kept_seconds: float = KEPT_SECONDS,
        remember_unkept_seconds: float = REMEMBER_UNKEPT_SECONDS,
        on_refresh_error: Callable[[EntryRef, Exception], None] | None = None,
    ) -> None:
        """``state_header``: what says how a page came about. ``kept_bytes``: what last known pages may take in all;
        ``kept_seconds``: for how long they are served since the coordinator was last heard of them, for they may have been
        invalidated since, hard too.

        ``remember_unkept_seconds``: for how long it is remembered that the page of an entry came out as one that is not kept,
        or could not be, of 4096 entries at most. For so long, visitors who find no page are rendered for at once, as many at a
        time as there are. A page that comes out for everybody ends that, and so do a render that fails and an invalidation by
        this process; after that time, one visitor takes the lease to find out. Zero: they all do, one after the other in the
        whole fleet.

        ``on_refresh_error``: called with what a render in the background raised; it is logged as well, to the logger
        ``leasehold``. ``ConfigurationError`` for a name that no header has."""
        _arguments.of("coordinator", coordinator, Coordinator)
        self._core = CorePages(
            coordinator._core,
            state_header,
            kept_bytes,
            kept_seconds,
            remember_unkept_seconds,
            on_refresh_error,
        )

    @property
    def state_header(self) -> str:
        """The response header that says how a page came about."""
        return self._core.state_header

    def serve(
        self,
        entry: EntryRef,
        policy: Policy,
        render: Callable[[Rendering], Rendered | str | bytes],
        *,
        if_none_match: str | None = None,
    ) -> Response:
        """The page of ``entry``, from wherever it is best had.

        ``render`` runs on this thread, under a lease that is renewed meanwhile; in the background, on one of its own. A
        text or bytes that it answers are a page of HTML.
        ``if_none_match`` is the request's header: a page that it has already is answered by 304.

        Raises what ``render`` raises, where the policy has nothing to serve instead; ``RegenerationPaused`` for a while
        after that, which is a 503 with ``Retry-After``; and ``LeaseholdError`` with the reason ``TENANT_BOUNDARY`` for a
        request with a tenant boundary header, where no tenant is declared, which is a 400. ``InvalidArgument`` for what
        is of the wrong type; where ``render`` answered it, that is a failed render.
        """

        async def rendered(rendering: Rendering) -> Rendered | str | bytes:
            return render(rendering)

        return run_blocking(self._core.serve(entry, policy, rendered, if_none_match))

    def invalidate(self, *scopes: Scope, depth: Depth = Depth.SOFT) -> ConsistencyToken:
        """As ``Coordinator.invalidate``; and all that this process serves later takes it into account at once."""
        return run_blocking(self._core.invalidate(scopes, depth))


class AsyncPages:
    """As ``Pages``, for asyncio."""

    def __init__(
        self,
        coordinator: AsyncCoordinator,
        *,
        state_header: str = DEFAULT_STATE_HEADER,
        kept_bytes: int = KEPT_BYTES,
        kept_seconds: float = KEPT_SECONDS,
        remember_unkept_seconds: float = REMEMBER_UNKEPT_SECONDS,
        on_refresh_error: Callable[[EntryRef, Exception], None] | None = None,
    ) -> None:
        """As with ``Pages``."""
        _arguments.of("coordinator", coordinator, AsyncCoordinator)
        self._core = CorePages(
            coordinator._core,
            state_header,
            kept_bytes,
            kept_seconds,
            remember_unkept_seconds,
            on_refresh_error,
        )

    @property
    def state_header(self) -> str:
        """The response header that says how a page came about."""
        return self._core.state_header

    async def serve(
        self,
        entry: EntryRef,
        policy: Policy,
        render: Callable[[Rendering], Awaitable[Rendered | str | bytes]],
        *,
        if_none_match: str | None = None,
    ) -> Response:
        """As ``Pages.serve``. A render runs as a task of its own: a visitor who goes away does not end what others wait
        for. One who goes away while it waits leaves no lease behind."""

        async def rendered(rendering: Rendering) -> Rendered | str | bytes:
            return await _arguments.awaited("render", render(rendering))

        return await self._core.serve(entry, policy, rendered, if_none_match)

    async def invalidate(self, *scopes: Scope, depth: Depth = Depth.SOFT) -> ConsistencyToken:
        """As ``Pages.invalidate``."""
        return await self._core.invalidate(scopes, depth)
