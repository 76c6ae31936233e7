"""The coordinator's calls, once for threads and for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from leasehold import _arguments, _io, _wire
from leasehold._call import Attempt, Calls, Limits
from leasehold._guard import Guard
from leasehold._io import Interruption, Io, Metadata, Method, Request, Response, Stream
from leasehold._lease import CoreLease
from leasehold._link import Connection
from leasehold.entry import EntryRef
from leasehold.errors import BodyTooLarge, Broken, LeaseholdError
from leasehold.ids import ConsistencyToken, RequestId, ResumeToken, SidecarToken
from leasehold.invalidation import Depth, Scope
from leasehold.outcomes import BackingOff, BodyKind, Ended, Granted, Health, Held, LookupReply, Ready
from leasehold.page import BodyDelivery, Consistency, FreshPage, StalePage
from leasehold.v1 import coordinator_pb2 as pb
from leasehold.watching import WatchFilter, WatchMessage, WatchStarted

CoreAcquire = Granted[CoreLease] | Ready | Held | BackingOff | Ended

WATCH_SILENCE_SECONDS = 60.0
"""A coordinator says every 15 s, by default, that it is there."""

# grpc.health.v1 takes a text and answers an enum, each as field 1, which is what these are on the wire too.
_HEALTH: Method[StringValue, Int32Value] = Method(
    "/grpc.health.v1.Health/Check", StringValue.SerializeToString, Int32Value.FromString
)
_HEALTHS = {1: Health.SERVING, 2: Health.NOT_SERVING}


@dataclass(frozen=True)
class OpenBody:
    """A body in chunks, in order."""

    chunks: AsyncIterator[bytes]


class Core:
    """See ``Coordinator``, which documents what callers may rely on."""

    def __init__(self, calls: Calls, owner: str, inline_limit_bytes: int) -> None:
        self.calls = calls
        self.owner = owner
        self.inline_limit_bytes = inline_limit_bytes
        self.guard = Guard(self)
        self._waiting: set[Interruption] = set()
        """Calls that nobody has to wait for once this is closed."""

    @property
    def io(self) -> Io:
        return self.calls.io

    async def close(self) -> None:
        for interruption in list(self._waiting):
            interruption.interrupt()
        await self.io.shut_down()
        self.calls.lanes.close()
        # Closing channels may itself be work in the background.
        await self.io.shut_down()

    async def lookup(
        self,
        entry: EntryRef,
        consistency: Consistency = Consistency.BOUNDED,
        consistency_token: ConsistencyToken | None = None,
        body: BodyDelivery = BodyDelivery.NONE,
        known_generation: int | None = None,
        limits: Limits | None = None,
    ) -> LookupReply:
        request = pb.LookupRequest(
            entry=_wire.to_entry(entry),
            consistency=_wire.to_consistency(consistency),
            consistency_token=consistency_token or "",
            body=_wire.to_delivery(body),
            known_generation=known_generation,
        )
        return _wire.parse_lookup(await self._prompt(_io.LOOKUP, request, limits))

    async def acquire(
        self,
        entry: EntryRef,
        ttl_seconds: float | None = None,
        wait_seconds: float = 0.0,
        consistency_token: ConsistencyToken | None = None,
        body: BodyDelivery = BodyDelivery.NONE,
        known_generation: int | None = None,
        owner: str | None = None,
        request_id: RequestId | None = None,
        limits: Limits | None = None,
        interruption: Interruption | None = None,
        is_new: bool = False,
    ) -> CoreAcquire:
        """``is_new``: nothing was ever sent with this request id."""
        identity, named = request_id or self.calls.new_request_id(), _wire.to_entry(entry)
        ttl, delivery = _wire.to_optional_duration("ttl_seconds", ttl_seconds), _wire.to_delivery(body)
        _arguments.seconds("wait_seconds", wait_seconds)

        def message(attempt: Attempt) -> pb.AcquireLeaseRequest:
            return pb.AcquireLeaseRequest(
                entry=named,
                request_id=identity.expose(),
                owner=self.owner if owner is None else owner,
                ttl=ttl,
                wait=_wire.to_duration("wait_seconds", attempt.wait) if attempt.wait > 0 else None,
                consistency_token=consistency_token or "",
                body=delivery,
                known_generation=known_generation,
                # Whoever names a request id may have sent it before.
                retry=attempt.is_retry or (request_id is not None and not is_new),
            )

        with ExitStack() as stack:
            lanes = self.calls.lanes
            link = stack.enter_context(lanes.waiting()) if wait_seconds > 0 else lanes.prompt
            limits = (limits or self.calls.limits).waiting(wait_seconds)
            if interruption is not None and wait_seconds > 0:
                self._waiting.add(interruption)
                stack.callback(self._waiting.discard, interruption)
            answered = await self.calls.unary(link, limits, _io.ACQUIRE, message, interruption)
        wire = answered.answer
        match _wire.which(wire, "outcome"):
            case "granted":
                return Granted(CoreLease.granted(self, entry, identity, wire.granted, answered.started))
            case "ready":
                return Ready(_wire.parse_current(wire.ready))
            case "held":
                return _wire.parse_held(wire.held)
            case "backing_off":
                return _wire.parse_backing_off(wire.backing_off)
            case "ended":
                return Ended()
            case _:
                _wire.malformed("the outcome of an acquire")

    async def invalidate(
        self,
        scopes: tuple[Scope, ...],
        depth: Depth,
        request_id: RequestId | None,
        limits: Limits | None = None,
    ) -> ConsistencyToken:
        request = pb.InvalidateRequest(
            request_id=(request_id or self.calls.new_request_id()).expose(),
            scopes=[_wire.to_scope(scope) for scope in scopes],
            depth=_wire.to_depth(depth),
        )
        return ConsistencyToken((await self._prompt(_io.INVALIDATE, request, limits)).consistency_token)

    async def health(self) -> Health:
        answer = await self._prompt(_HEALTH, StringValue(), None)
        return _HEALTHS.get(answer.value, Health.UNKNOWN)

    async def serve_page(
        self,
        entry: EntryRef,
        consistency: Consistency,
        consistency_token: ConsistencyToken | None,
        limits: Limits | None = None,
    ) -> tuple[FreshPage | StalePage, OpenBody]:
        request = pb.ServePageRequest(
            entry=_wire.to_entry(entry),
            consistency=_wire.to_consistency(consistency),
            consistency_token=consistency_token or "",
        )
        stack = ExitStack()
        with stack:
            first, stream = await self._open(stack, _io.SERVE_PAGE, request, limits)
            if _wire.which(first, "part") != "head":
                _wire.malformed("the head of a page")
            current = _wire.parse_current(first.head)
            return current, OpenBody(self._chunks(stack.pop_all(), stream))

    async def serve_sidecar(
        self, entry: EntryRef, token: SidecarToken, consistency_token: ConsistencyToken | None
    ) -> tuple[str, int, OpenBody]:
        request = pb.ServeSidecarRequest(
            entry=_wire.to_entry(entry),
            sidecar_token=token.expose(),
            consistency_token=consistency_token or "",
        )
        stack = ExitStack()
        with stack:
            first, stream = await self._open(stack, _io.SERVE_SIDECAR, request, None)
            if _wire.which(first, "part") != "head":
                _wire.malformed("the head of a sidecar")
            head = first.head
            return head.content_type, head.size_bytes, OpenBody(self._chunks(stack.pop_all(), stream))

    async def serve_object(
        self, tenant: str, name: str, consistency_token: ConsistencyToken | None
    ) -> tuple[BodyKind, str, int, bytes, OpenBody]:
        request = pb.ServeObjectRequest(
            tenant=tenant, object_name=name, consistency_token=consistency_token or ""
        )
        stack = ExitStack()
        with stack:
            first, stream = await self._open(stack, _io.SERVE_OBJECT, request, None)
            if _wire.which(first, "part") != "head":
                _wire.malformed("the head of an object")
            head = first.head
            kind = _wire.parse_kind(head.kind)
            body = OpenBody(self._chunks(stack.pop_all(), stream))
            return kind, head.content_type, head.size_bytes, head.digest, body

    async def watch(
        self, filters: tuple[WatchFilter, ...], resume: ResumeToken | None
    ) -> AsyncIterator[WatchMessage]:
        """Reconnects by itself, and goes on where it stood."""
        failures, failing_since, asked_pause = 0, None, 0.0
        is_renewed = False
        while True:
            metadata: Metadata = ()
            request = pb.WatchRequest(
                filters=[_wire.to_filter(watched) for watched in filters], resume_token=resume or ""
            )
            try:
                metadata = await self.calls.present(self.calls.limits.overall)
                with ExitStack() as stack:
                    link = stack.enter_context(self.calls.lanes.waiting())
                    connection = stack.enter_context(link.connection())
                    try:
                        await connection.ready(self.calls.limits.attempt)
                        stream = self.io.stream(connection.channel, _io.WATCH, request, metadata)
                        stack.callback(stream.close)
                        silence = self.calls.limits.attempt
                        while (wire := await stream.read(silence)) is not None:
                            silence, is_renewed = WATCH_SILENCE_SECONDS, False
                            message = _wire.parse_event(wire)
                            if message is None:
                                break
                            resume = message.resume_token or resume
                            if not isinstance(message.event, WatchStarted):
                                failures, failing_since = 0, None
                            yield message
                        raise Broken("the coordinator ended the watch")
                    except LeaseholdError as error:
                        if error._suspects_connection:
                            link.replace(connection)
                        raise
            except LeaseholdError as error:
                if not is_renewed and self.calls.renews(error, metadata):
                    is_renewed = True
                    continue
                now = self.io.now()
                failing_since = now if failing_since is None else failing_since
                if not error.is_retryable or now - failing_since >= self.calls.limits.overall:
                    raise
                failures += 1
                refusal = error.refusal
                asked_pause = (refusal.retry_after_seconds or 0.0) if refusal is not None else 0.0
            await self.io.sleep(asked_pause + self.calls.jittered(self.calls.retry.backoff_seconds(failures)))

    async def _prompt(
        self, method: Method[Request, Response], request: Request, limits: Limits | None
    ) -> Response:
        lane = self.calls.lanes.prompt
        return (await self.calls.unary(lane, limits or self.calls.limits, method, lambda _: request)).answer

    async def _open(
        self, stack: ExitStack, method: Method[Request, Response], request: Request, limits: Limits | None
    ) -> tuple[Response, Stream[Response]]:
        """Retries until the head is there. ``stack`` keeps what the stream needs."""
        link = stack.enter_context(self.calls.lanes.waiting())

        async def send(
            connection: Connection, attempt: Attempt
        ) -> tuple[Response, Stream[Response], ExitStack]:
            # A deadline would be that of the whole stream, which lasts as long as its reader takes.
            stream = self.io.stream(connection.channel, method, request, attempt.metadata)
            opened = ExitStack()
            with opened:
                opened.callback(stream.close)
                first = await stream.read(attempt.timeout)
                if first is None:
                    _wire.malformed("the first part of a body")
                connection.enter()
                opened.callback(connection.leave)
                return first, stream, opened.pop_all()

        first, stream, opened = (await self.calls.attempts(link, limits or self.calls.limits, send)).answer
        stack.push(opened.__exit__)
        return first, stream

    async def _chunks(self, stack: ExitStack, stream: Stream[Any]) -> AsyncIterator[bytes]:
        """What has been passed on cannot be taken back, so that it is not retried."""
        with stack:
            while (part := await stream.read(self.calls.limits.attempt)) is not None:
                if _wire.which(part, "part") != "chunk":
                    _wire.malformed("a chunk of a body")
                yield bytes(part.chunk)


async def collect(body: OpenBody, limit_bytes: int) -> bytes:
    """All of it. ``BodyTooLarge`` beyond the limit."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in body.chunks:
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)
