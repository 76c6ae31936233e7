"""The handle that calls are made on, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType

import grpc

from leasehold._asyncio import AsyncIo
from leasehold._core import Core, OpenBody, collect
from leasehold._lease import CoreLease, LeaseFacts
from leasehold._tls import opener
from leasehold.entry import EntryRef
from leasehold.ids import ConsistencyToken, RequestId, ResumeToken, SidecarToken
from leasehold.invalidation import Depth, Scope
from leasehold.outcomes import (
    BackingOff,
    BodyKind,
    Commit,
    Ended,
    Granted,
    Health,
    Held,
    LookupReply,
    NewPage,
    Ready,
    Release,
    Renewal,
    Upload,
)
from leasehold.page import BodyDelivery, Consistency, FreshPage, StalePage
from leasehold.settings import DEFAULT_ADDRESS, ChannelOptions, Settings
from leasehold.watching import WatchFilter, WatchMessage

AsyncAcquire = Granted["AsyncLease"] | Ready | Held | BackingOff | Ended
"""What became of the wish to render."""


class AsyncCoordinator:
    """As ``Coordinator``, for asyncio. A handle belongs to the event loop in which it is first used.

    Cancelling a call abandons it; whether it is applied is then unknown.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        settings: Settings | None = None,
        *,
        connect: Callable[[str, ChannelOptions], grpc.aio.Channel] | None = None,
    ) -> None:
        """``address`` is the coordinator's, such as ``http://10.0.0.7:7420``, or that of what balances between several;
        ``https://`` is TLS. ``connect`` makes the channels, for other transports; it is called again whenever a connection is
        replaced. ``ConfigurationError`` for a malformed address, and for a ``Settings.security`` that cannot be used."""
        self._settings = settings or Settings()
        options, security = self._settings.channel_options(), self._settings.security
        open_channel = opener(
            address, security, options, connect, grpc.aio.insecure_channel, grpc.aio.secure_channel
        )
        io = AsyncIo(address, open_channel, self._settings.background_workers)
        self._core: Core = self._settings._core(io)

    async def __aenter__(self) -> AsyncCoordinator:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As ``Coordinator.close``."""
        await self._core.close()

    def __repr__(self) -> str:
        return f"AsyncCoordinator(owner={self._settings.owner!r})"

    async def lookup(
        self,
        entry: EntryRef,
        *,
        consistency: Consistency = Consistency.BOUNDED,
        consistency_token: ConsistencyToken | None = None,
        body: BodyDelivery = BodyDelivery.NONE,
        known_generation: int | None = None,
    ) -> LookupReply:
        """As ``Coordinator.lookup``."""
        return await self._core.lookup(entry, consistency, consistency_token, body, known_generation)

    async def acquire(
        self,
        entry: EntryRef,
        *,
        ttl_seconds: float | None = None,
        wait_seconds: float = 0.0,
        consistency_token: ConsistencyToken | None = None,
        body: BodyDelivery = BodyDelivery.NONE,
        known_generation: int | None = None,
        owner: str | None = None,
        request_id: RequestId | None = None,
    ) -> AsyncAcquire:
        """As ``Coordinator.acquire``."""
        outcome = await self._core.acquire(
            entry, ttl_seconds, wait_seconds, consistency_token, body, known_generation, owner, request_id
        )
        return Granted(AsyncLease(outcome.lease)) if isinstance(outcome, Granted) else outcome

    def adopt_lease(self, entry: EntryRef, request_id: RequestId, generation: int) -> AsyncLease:
        """As ``Coordinator.adopt_lease``."""
        return AsyncLease(CoreLease.adopted(self._core, entry, request_id, generation))

    def new_request_id(self) -> RequestId:
        """As ``Coordinator.new_request_id``."""
        return self._core.calls.new_request_id()

    async def invalidate(
        self, *scopes: Scope, depth: Depth = Depth.SOFT, request_id: RequestId | None = None
    ) -> ConsistencyToken:
        """As ``Coordinator.invalidate``."""
        return await self._core.invalidate(scopes, depth, request_id)

    async def serve_page(
        self,
        entry: EntryRef,
        *,
        consistency: Consistency = Consistency.BOUNDED,
        consistency_token: ConsistencyToken | None = None,
    ) -> AsyncServedPage:
        """As ``Coordinator.serve_page``."""
        current, body = await self._core.serve_page(entry, consistency, consistency_token)
        return AsyncServedPage(current, AsyncBodyChunks(body))

    async def serve_sidecar(
        self, entry: EntryRef, token: SidecarToken, *, consistency_token: ConsistencyToken | None = None
    ) -> AsyncServedSidecar:
        """As ``Coordinator.serve_sidecar``."""
        content_type, size_bytes, body = await self._core.serve_sidecar(entry, token, consistency_token)
        return AsyncServedSidecar(content_type, size_bytes, AsyncBodyChunks(body))

    async def serve_object(
        self, name: str, *, tenant: str = "", consistency_token: ConsistencyToken | None = None
    ) -> AsyncServedObject:
        """As ``Coordinator.serve_object``."""
        kind, content_type, size_bytes, digest, body = await self._core.serve_object(
            tenant, name, consistency_token
        )
        return AsyncServedObject(kind, content_type, size_bytes, digest, AsyncBodyChunks(body))

    def watch(self, *filters: WatchFilter, resume: ResumeToken | None = None) -> AsyncIterator[WatchMessage]:
        """As ``Coordinator.watch``."""
        return self._core.watch(filters, resume)

    async def health(self) -> Health:
        """As ``Coordinator.health``."""
        return await self._core.health()


class AsyncLease(LeaseFacts):
    """As ``Lease``, for asyncio."""

    async def renew(self, *, ttl_seconds: float | None = None) -> Renewal:
        """As ``Lease.renew``."""
        return await self._core.renew(ttl_seconds)

    @asynccontextmanager
    async def renewing(self, *, ttl_seconds: float | None = None) -> AsyncIterator[None]:
        """As ``Lease.renewing``, as a task of its own."""
        async with self._core.renewing(ttl_seconds):
            yield

    async def upload(
        self, kind: BodyKind, body: bytes, *, content_type: str | None = None, name: str | None = None
    ) -> Upload:
        """As ``Lease.upload``."""
        return await self._core.upload(kind, name, content_type, body)

    async def commit(self, page: NewPage) -> Commit:
        """As ``Lease.commit``."""
        return await self._core.commit(page)

    async def release(self) -> Release:
        """As ``Lease.release``."""
        return await self._core.give_back(None)

    async def fail(self, reason: str) -> Release:
        """As ``Lease.fail``."""
        return await self._core.give_back(reason)

    async def __aenter__(self) -> AsyncLease:
        self._renewal = self._core.renewing(None)
        await self._renewal.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._renewal.__aexit__(None, None, None)
        await self._core.settle(error)


@dataclass(frozen=True)
class AsyncServedPage:
    """A page and its HTML."""

    current: FreshPage | StalePage
    """What is current, without its body."""
    body: AsyncBodyChunks = field(repr=False)
    """The HTML."""


@dataclass(frozen=True)
class AsyncServedSidecar:
    """A hydration sidecar."""

    content_type: str
    """Its content type."""
    size_bytes: int
    """Its length."""
    body: AsyncBodyChunks = field(repr=False)
    """Its bytes."""


@dataclass(frozen=True)
class AsyncServedObject:
    """A body that was read by the name that its worker gave it."""

    kind: BodyKind
    """Which body of its page."""
    content_type: str
    """Its content type."""
    size_bytes: int
    """Its length."""
    digest: bytes
    """SHA-256 of its bytes."""
    body: AsyncBodyChunks = field(repr=False)
    """Its bytes."""


class AsyncBodyChunks:
    """A body in chunks, in order; to be iterated over once. Ends with an error when the connection breaks, or when no
    chunk came within the attempt timeout: what has been passed on by then cannot be taken back, so it is not retried."""

    def __init__(self, body: OpenBody) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.chunks

    async def collect(self, limit_bytes: int) -> bytes:
        """All of it. ``BodyTooLarge`` beyond the limit."""
        return await collect(self._body, limit_bytes)
