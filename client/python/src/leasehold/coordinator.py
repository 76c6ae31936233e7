"""The handle that calls are made on, for threads."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from weakref import WeakKeyDictionary

import grpc

from leasehold._blocking import BlockingIo
from leasehold._core import Core, OpenBody
from leasehold._io import blocking_iterator, run_blocking
from leasehold._lease import CoreLease, LeaseFacts
from leasehold._tls import opener
from leasehold.entry import EntryRef
from leasehold.errors import BodyTooLarge
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

SETTLE_SECONDS = 2.0
"""For so long a process that ends waits for leases that are being given back."""

_open: WeakKeyDictionary[Core, BlockingIo] = WeakKeyDictionary()


@atexit.register
def _close_all() -> None:
    """A channel of gRPC's that is still open when the interpreter takes its modules apart may keep the process for good."""
    for core, io in list(_open.items()):
        io.settle(SETTLE_SECONDS)
        core.calls.lanes.close()


Acquire = Granted["Lease"] | Ready | Held | BackingOff | Ended
"""What became of the wish to render."""


class Coordinator:
    """A handle on the coordinator, for code that blocks. Safe to share between threads; make one for each process,
    after it has forked.

    Every call retries by itself, with one request id, within the timeouts and the retry policy of the settings, and
    replaces a connection that broke or fell silent: also the one that a frozen process wakes up with. Connections are
    made when they are needed: making a handle fails only for a malformed address, and a coordinator that is down shows
    as an error of the calls. Every call may raise ``LeaseholdError``, which says whether it may have been applied.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        settings: Settings | None = None,
        *,
        connect: Callable[[str, ChannelOptions], grpc.Channel] | None = None,
    ) -> None:
        """``address`` is the coordinator's, such as ``http://10.0.0.7:7420``, or that of what balances between several;
        ``https://`` is TLS. ``connect`` makes the channels, for other transports; it is called again whenever a connection is
        replaced. ``ConfigurationError`` for a malformed address, and for a ``Settings.security`` that cannot be used."""
        self._settings = settings or Settings()
        options, security = self._settings.channel_options(), self._settings.security
        open_channel = opener(address, security, options, connect, grpc.insecure_channel, grpc.secure_channel)
        io = BlockingIo(address, open_channel, self._settings.background_workers)
        self._core: Core = self._settings._core(io)
        _open[self._core] = io

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends waits for pages that others render, waits for regenerations in the background, and closes the connections. Calls
        then raise ``ConfigurationError``. Where it was not called, the connections are closed as the process ends."""
        run_blocking(self._core.close())

    def __repr__(self) -> str:
        return f"Coordinator(owner={self._settings.owner!r})"

    def lookup(
        self,
        entry: EntryRef,
        *,
        consistency: Consistency = Consistency.BOUNDED,
        consistency_token: ConsistencyToken | None = None,
        body: BodyDelivery = BodyDelivery.NONE,
        known_generation: int | None = None,
    ) -> LookupReply:
        """Tells what is current for an entry. Changes nothing.

        With ``consistency_token`` the answer takes that invalidation into account, and waits for it where need be. Of the
        generation ``known_generation``, which the caller has a copy of, the body is left out. Refused as
        ``INVALID_FIELD``, ``TENANT_BOUNDARY``, ``CONSISTENCY_TOKEN_UNKNOWN``, ``BODY_URL_UNSUPPORTED``.
        """
        return run_blocking(self._core.lookup(entry, consistency, consistency_token, body, known_generation))

    def acquire(
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
    ) -> Acquire:
        """Asks for the right to render the next generation of an entry. Of all callers at a time, one is granted it.

        The lease lasts ``ttl_seconds`` without renewal: 0.1 to the coordinator's limit (default 300); ``None``: its default
        (10). Where another holds it, waits ``wait_seconds`` for its page or for the lease to fall free, at most the
        coordinator's limit (default 60); the timeouts of the handle are on top. ``request_id`` is the identity of this
        attempt to render; ``None``: a new one. Otherwise as ``lookup``. Refused also as ``LIMIT_REACHED``, beyond all
        retries. Without an answer in time, what was granted meanwhile, unheard, expires after its ttl.
        """
        outcome = run_blocking(
            self._core.acquire(
                entry, ttl_seconds, wait_seconds, consistency_token, body, known_generation, owner, request_id
            )
        )
        return Granted(Lease(outcome.lease)) if isinstance(outcome, Granted) else outcome

    def adopt_lease(self, entry: EntryRef, request_id: RequestId, generation: int) -> Lease:
        """The lease of an acquire that was granted elsewhere, such as in a process that has died. What the grant said of
        times and objects is not known; nothing is asked until a call is made on it."""
        return Lease(CoreLease.adopted(self._core, entry, request_id, generation))

    def new_request_id(self) -> RequestId:
        """A new request id: for a call that another process is to repeat, should this one die."""
        return self._core.calls.new_request_id()

    def invalidate(
        self, *scopes: Scope, depth: Depth = Depth.SOFT, request_id: RequestId | None = None
    ) -> ConsistencyToken:
        """Declares pages out of date, however many: 1 to 100 scopes. Change the data first, then invalidate.

        Once this is answered, no page whose render began before the call is served as fresh: at once to calls that
        present the token, within the staleness bound to all others. With a ``request_id`` of the caller's, a call of
        unknown outcome can be repeated as one and the same. Refused as ``INVALID_FIELD``.
        """
        return run_blocking(self._core.invalidate(scopes, depth, request_id))

    def serve_page(
        self,
        entry: EntryRef,
        *,
        consistency: Consistency = Consistency.BOUNDED,
        consistency_token: ConsistencyToken | None = None,
    ) -> ServedPage:
        """Streams the current page, fresh or stale, however large. Refused as ``PAGE_NOT_FOUND`` where there is none, and
        as ``lookup``."""
        current, body = run_blocking(self._core.serve_page(entry, consistency, consistency_token))
        return ServedPage(current, BodyChunks(body))

    def serve_sidecar(
        self, entry: EntryRef, token: SidecarToken, *, consistency_token: ConsistencyToken | None = None
    ) -> ServedSidecar:
        """Streams a hydration sidecar by the token in its page's URL; ``entry`` is what the request for it resolves to.
        Also that of an older generation, for as long as it is stored. With ``consistency_token`` as ``lookup``. Refused as
        ``SIDECAR_NOT_FOUND``, whatever is wrong with the token, as ``TENANT_BOUNDARY``, and as
        ``CONSISTENCY_TOKEN_UNKNOWN``."""
        content_type, size_bytes, body = run_blocking(
            self._core.serve_sidecar(entry, token, consistency_token)
        )
        return ServedSidecar(content_type, size_bytes, BodyChunks(body))

    def serve_object(
        self, name: str, *, tenant: str = "", consistency_token: ConsistencyToken | None = None
    ) -> ServedObject:
        """Streams a body by the name that its worker gave it: ``NewPage.html_name``, ``NewPage.sidecar_name``. Also that of
        an older generation, for as long as it is stored. ``tenant`` empty: the tenant ``default``. With
        ``consistency_token`` as ``lookup``. Refused as ``OBJECT_NOT_FOUND``, whatever is wrong with the name, and as
        ``CONSISTENCY_TOKEN_UNKNOWN``. Never by a name that comes from a browser: whoever knows a name is
        given the body, whichever variant of a page it is of."""
        kind, content_type, size_bytes, digest, body = run_blocking(
            self._core.serve_object(tenant, name, consistency_token)
        )
        return ServedObject(kind, content_type, size_bytes, digest, BodyChunks(body))

    def watch(self, *filters: WatchFilter, resume: ResumeToken | None = None) -> Iterator[WatchMessage]:
        """Commits and invalidations as they happen: 1 to 100 filters. With ``resume``, goes on after the message that
        carried it; else begins now. Nothing is sent until the first message is asked for.

        Reconnects by itself, and goes on where it stood; where it cannot, ``WatchResync`` says so. Raises what is not
        retryable, and what is when there has been no watch for the overall timeout.
        """
        yield from blocking_iterator(self._core.watch(filters, resume))

    def health(self) -> Health:
        """Asks for the coordinator's health, by ``grpc.health.v1``."""
        return run_blocking(self._core.health())


class Lease(LeaseFacts):
    """The right to render the next generation of an entry.

    It ends by ``commit``, ``release`` or ``fail``. Otherwise the entry stays held until the lease expires. As a context
    manager it is renewed while the block runs, and what the block did not end is given back: as failed, where the block
    raised anything but what its commit raised. Safety does not depend on the times kept here: a late commit is accepted if nobody was granted the lease since,
    and fenced otherwise. ``repr`` does not show the request id.
    """

    def renew(self, *, ttl_seconds: float | None = None) -> Renewal:
        """Asks for so long from now on; ``None``: the coordinator's default. Without an answer in time, the lease may or
        may not last on."""
        return run_blocking(self._core.renew(ttl_seconds))

    @contextmanager
    def renewing(self, *, ttl_seconds: float | None = None) -> Iterator[None]:
        """Renews it while the block runs, on a thread of its own, each time for ``ttl_seconds``. A lease that is lost does
        not stop the block: the commit will tell."""
        renewal = self._core.renewing(ttl_seconds)
        run_blocking(renewal.__aenter__())
        try:
            yield
        finally:
            run_blocking(renewal.__aexit__(None, None, None))

    def upload(
        self, kind: BodyKind, body: bytes, *, content_type: str | None = None, name: str | None = None
    ) -> Upload:
        """Stores one body ahead of the commit that names it: at most 16 MiB by default. The sidecar before the HTML.
        ``content_type`` ``None``: ``text/html; charset=utf-8`` or ``application/json``. Refused as ``OBJECT_CONFLICT`` where
        other bytes were stored under this lease before, or another lease's under this ``name``, and as ``LIMIT_REACHED``.
        ``name`` is as in ``NewPage``, which has to give the same."""
        return run_blocking(self._core.upload(kind, name, content_type, body))

    def commit(self, page: NewPage) -> Commit:
        """Makes ``page`` the current one and ends the lease. What is acknowledged survives the crash of every
        coordinator. A lease that expired, but that nobody was granted since, still commits.

        Bodies of more than the inline limit, together, are uploaded first. Refused as ``INVALID_FIELD`` (also for a status
        of 500 or more: that is a failed render), ``OBJECT_MISSING``, ``OBJECT_CONFLICT``. Without an answer in time it may
        have been applied, and committing again tells.
        """
        return run_blocking(self._core.commit(page))

    def release(self) -> Release:
        """Gives it back without a page: it was not needed, and nothing is wrong."""
        return run_blocking(self._core.give_back(None))

    def fail(self, reason: str) -> Release:
        """Gives it back after a failed render. Nobody is granted the lease for a while that doubles with each failure in
        a row; the current page stays. Operators see ``reason``, of which 512 bytes are kept: it must hold no secrets."""
        return run_blocking(self._core.give_back(reason))

    def __enter__(self) -> Lease:
        self._renewal = self._core.renewing(None)
        run_blocking(self._renewal.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_blocking(self._renewal.__aexit__(None, None, None))
        run_blocking(self._core.settle(error))


@dataclass(frozen=True)
class ServedPage:
    """A page and its HTML."""

    current: FreshPage | StalePage
    """What is current, without its body."""
    body: BodyChunks = field(repr=False)
    """The HTML."""


@dataclass(frozen=True)
class ServedSidecar:
    """A hydration sidecar."""

    content_type: str
    """Its content type."""
    size_bytes: int
    """Its length."""
    body: BodyChunks = field(repr=False)
    """Its bytes."""


@dataclass(frozen=True)
class ServedObject:
    """A body that was read by the name that its worker gave it."""

    kind: BodyKind
    """Which body of its page."""
    content_type: str
    """Its content type."""
    size_bytes: int
    """Its length."""
    digest: bytes
    """SHA-256 of its bytes."""
    body: BodyChunks = field(repr=False)
    """Its bytes."""


class BodyChunks:
    """A body in chunks, in order; to be iterated over once. Ends with an error when the connection breaks, or when no
    chunk came within the attempt timeout: what has been passed on by then cannot be taken back, so it is not retried."""

    def __init__(self, body: OpenBody) -> None:
        self._chunks = blocking_iterator(body.chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def collect(self, limit_bytes: int) -> bytes:
        """All of it. ``BodyTooLarge`` beyond the limit."""
        collected = bytearray()
        for chunk in self._chunks:
            collected += chunk
            if len(collected) > limit_bytes:
                raise BodyTooLarge(limit_bytes)
        return bytes(collected)
