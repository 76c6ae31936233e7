"""The right to render, once for threads and for asyncio."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from leasehold import _io, _wire
from leasehold._call import Attempt, Limits
from leasehold._link import Connection
from leasehold._visitor import label
from leasehold.entry import EntryRef
from leasehold.errors import LeaseholdError
from leasehold.ids import RequestId, SidecarToken
from leasehold.outcomes import (
    BodyKind,
    Commit,
    Fenced,
    Lost,
    NewBody,
    NewPage,
    NotHeld,
    Release,
    Released,
    Renewal,
    Renewed,
    StoredBody,
    Superseded,
    Upload,
    Uploaded,
)
from leasehold.page import StalePage
from leasehold.v1 import coordinator_pb2 as pb

if TYPE_CHECKING:
    from leasehold._core import Core

_log = logging.getLogger("leasehold")

RESPITE_SECONDS = 0.05
"""Renewals are at least so far apart."""
UPLOAD_CHUNK_BYTES = 256 << 10
SLOWEST_BYTES_PER_SECOND = 1 << 20
"""A body gets another second for each of these."""


@dataclass(frozen=True)
class Terms:
    """How long it lasts, counted from before the call was sent that said so."""

    since: float
    deadline: float
    renewable_until: float

    def renew_at(self) -> float:
        """A third into it: two more renewals may fail."""
        return self.since + (self.deadline - self.since) / 3


class CoreLease:
    """See ``Lease``."""

    def __init__(
        self,
        core: Core,
        entry: EntryRef,
        request_id: RequestId,
        generation: int,
        terms: Terms,
        html_object: str = "",
        sidecar_object: str = "",
        sidecar_token: SidecarToken | None = None,
        previous: StalePage | None = None,
    ) -> None:
        self.core = core
        self.entry = entry
        self.request_id = request_id
        self.generation = generation
        self.html_object = html_object
        self.sidecar_object = sidecar_object
        self.sidecar_token = sidecar_token
        self.previous = previous
        self.is_over = False
        """It was committed or given back, as far as is known."""
        self._problem: LeaseholdError | None = None
        """Why the last commit has no outcome."""
        self._terms = terms
        self._lock = threading.Lock()

    @classmethod
    def granted(
        cls, core: Core, entry: EntryRef, request_id: RequestId, grant: pb.LeaseGrant, since: float
    ) -> CoreLease:
        return cls(
            core,
            entry,
            request_id,
            grant.generation,
            _terms(since, grant.remaining, grant.renewable_for),
            grant.html_object,
            grant.sidecar_object,
            _wire.sidecar_token(grant.sidecar_token),
            _wire.parse_previous(grant),
        )

    @classmethod
    def adopted(cls, core: Core, entry: EntryRef, request_id: RequestId, generation: int) -> CoreLease:
        now = core.io.now()
        return cls(core, entry, request_id, generation, Terms(now, now, now))

    @property
    def terms(self) -> Terms:
        with self._lock:
            return self._terms

    async def renew(self, ttl_seconds: float | None) -> Renewal:
        request = pb.RenewLeaseRequest(
            entry=_wire.to_entry(self.entry),
            lease=self._to_wire(),
            ttl=_wire.to_optional_duration("ttl_seconds", ttl_seconds),
        )
        calls = self.core.calls
        answered = await calls.unary(calls.lanes.prompt, calls.limits, _io.RENEW, lambda _: request)
        wire = answered.answer
        match _wire.which(wire, "outcome"):
            case "renewed":
                terms = _terms(answered.started, wire.renewed.remaining, wire.renewed.renewable_for)
                with self._lock:
                    self._terms = terms
                return Renewed(max(terms.deadline - self.core.io.now(), 0.0))
            case "lost":
                return Lost()
            case _:
                _wire.malformed("the outcome of a renewal")

    def renewing(self, ttl_seconds: float | None) -> AbstractAsyncContextManager[None]:
        """While the block runs. A lease that is lost does not stop it, for its page may still be of use to this very
        request: the commit will tell."""

        async def step() -> float | None:
            try:
                if isinstance(await self.renew(ttl_seconds), Lost):
                    return None
            except LeaseholdError as error:
                if not error.is_retryable:
                    return None
                _log.debug(
                    "lease not renewed: %s generation=%d error=%s", label(self.entry), self.generation, error
                )
            return self._renewal_pause()

        return self.core.io.meanwhile(step, self._renewal_pause())

    def _renewal_pause(self) -> float:
        return max(self.terms.renew_at() - self.core.io.now(), RESPITE_SECONDS)

    async def give_back(self, failure: str | None, limits: Limits | None = None) -> Release:
        reason = None if failure is None else _cut(failure or "unspecified")
        request = pb.ReleaseLeaseRequest(
            entry=_wire.to_entry(self.entry), lease=self._to_wire(), failure=reason
        )
        self.is_over = True
        calls = self.core.calls
        answered = await calls.unary(
            calls.lanes.prompt, limits or calls.limits, _io.RELEASE, lambda _: request
        )
        match _wire.which(answered.answer, "outcome"):
            case "released":
                return Released()
            case "not_held":
                return NotHeld()
            case _:
                _wire.malformed("the outcome of a release")

    async def settle(self, error: BaseException | None) -> None:
        """Gives back what nobody ended. What goes wrong with that is not the caller's concern: it then expires."""
        if self.is_over:
            return
        # That no coordinator was able to take a page is no fault of its render's.
        failure = None if error is self._problem else failure_of(error)
        try:
            await self.give_back(failure)
        except LeaseholdError as problem:
            _log.warning(
                "lease not given back: %s generation=%d error=%s", label(self.entry), self.generation, problem
            )

    async def commit(self, page: NewPage, limits: Limits | None = None) -> Commit:
        try:
            return await self._commit(page, limits)
        except LeaseholdError as error:
            # What is refused, for what it says, is the fault of its render.
            if error.is_outage:
                self._problem = error
            raise

    async def _commit(self, page: NewPage, limits: Limits | None) -> Commit:
        limit = self.core.inline_limit_bytes
        html, sidecar = _bytes(page.html), None if page.sidecar is None else _bytes(page.sidecar)
        # A sidecar that comes with its commit is stored with the page's tags and path.
        is_sidecar_inline = _inline_size(sidecar) <= limit
        beside = _inline_size(sidecar) if is_sidecar_inline else 0
        is_html_inline = _inline_size(html) + beside <= limit
        request = pb.CommitPointerRequest(
            entry=_wire.to_entry(self.entry), lease=self._to_wire(), metadata=_wire.to_metadata(page.metadata)
        )
        # In this order: a page must never be there without its sidecar.
        if sidecar is not None:
            match await self._source(
                BodyKind.SIDECAR, page.sidecar_name, None, sidecar, is_sidecar_inline, limits
            ):
                case pb.BodySource() as source:
                    request.sidecar.CopyFrom(source)
                case Fenced() | Superseded() as late:
                    self.is_over = True
                    return late
        content_type = page.metadata.content_type
        match await self._source(BodyKind.HTML, page.html_name, content_type, html, is_html_inline, limits):
            case pb.BodySource() as source:
                request.html.CopyFrom(source)
            case Fenced() | Superseded() as late:
                self.is_over = True
                return late
        calls = self.core.calls
        inline_bytes = beside + (_inline_size(html) if is_html_inline else 0)
        limits = (limits or calls.limits).waiting(inline_bytes / SLOWEST_BYTES_PER_SECOND)
        answered = await calls.unary(calls.lanes.prompt, limits, _io.COMMIT, lambda _: request)
        outcome = _wire.parse_commit(answered.answer)
        self.is_over = True
        return outcome

    async def _source(
        self,
        kind: BodyKind,
        name: str | None,
        content_type: str | None,
        body: bytes | StoredBody,
        is_inline: bool,
        limits: Limits | None,
    ) -> pb.BodySource | Fenced | Superseded:
        if isinstance(body, StoredBody):
            return _wire.to_stored(body, name)
        if is_inline:
            return pb.BodySource(inline=body, object_name=name or "")
        match await self.upload(kind, name, content_type, body, limits):
            case Uploaded(body=stored):
                return _wire.to_stored(stored, name)
            case outcome:
                return outcome

    async def upload(
        self,
        kind: BodyKind,
        name: str | None,
        content_type: str | None,
        body: bytes,
        limits: Limits | None = None,
    ) -> Upload:
        head = pb.UploadHead(
            entry=_wire.to_entry(self.entry),
            lease=self._to_wire(),
            kind=_wire.to_kind(kind),
            content_type=content_type or "",
            object_name=name or "",
        )
        calls = self.core.calls

        async def send(connection: Connection, attempt: Attempt) -> pb.UploadBodyResponse:
            parts = _upload_parts(head, body)
            return await self.core.io.upload(
                connection.channel, _io.UPLOAD, parts, attempt.timeout, attempt.metadata
            )

        with calls.lanes.waiting() as link:
            limits = (limits or calls.limits).waiting(len(body) / SLOWEST_BYTES_PER_SECOND)
            return _wire.parse_upload((await calls.attempts(link, limits, send)).answer)

    def _to_wire(self) -> pb.LeaseRef:
        return _wire.to_lease(self.request_id, self.generation)


class LeaseFacts:
    """What is known of a lease without asking."""

    def __init__(self, core: CoreLease) -> None:
        self._core = core

    @property
    def entry(self) -> EntryRef:
        """The entry."""
        return self._core.entry

    @property
    def generation(self) -> int:
        """The fence."""
        return self._core.generation

    @property
    def request_id(self) -> RequestId:
        """The request id that it was acquired with: whoever knows it can commit."""
        return self._core.request_id

    @property
    def remaining_seconds(self) -> float:
        """For how long it lasts unless renewed; never longer than by the coordinator's clock. Zero: it has expired."""
        return max(self._core.terms.deadline - self._core.core.io.now(), 0.0)

    @property
    def renewable_for_seconds(self) -> float:
        """For how long it can still be held by renewing."""
        return max(self._core.terms.renewable_until - self._core.core.io.now(), 0.0)

    @property
    def html_object(self) -> str:
        """Where the HTML will be stored: for workers that write to the object store themselves."""
        return self._core.html_object

    @property
    def sidecar_object(self) -> str:
        """Where the sidecar will be stored. Write it before the HTML."""
        return self._core.sidecar_object

    @property
    def sidecar_token(self) -> SidecarToken | None:
        """The token for the sidecar's URL, to be put into the HTML. ``None`` for an adopted lease."""
        return self._core.sidecar_token

    @property
    def previous(self) -> StalePage | None:
        """The page so far, to serve while rendering. ``None``: there is none that may be served."""
        return self._core.previous

    def __repr__(self) -> str:
        return f"{type(self).__name__}(entry={self.entry!r}, generation={self.generation})"


def failure_of(error: BaseException | None) -> str | None:
    """What operators are told of it. Whoever was cancelled or interrupted has not failed."""
    return f"{type(error).__name__}: {error}" if isinstance(error, Exception) else None


def _terms(since: float, remaining: Duration, renewable_for: Duration) -> Terms:
    return Terms(since, since + _wire.seconds_of(remaining), since + _wire.seconds_of(renewable_for))


def _cut(text: str) -> str:
    """As the coordinator would: 512 bytes of it, and no control characters."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain.encode(errors="replace")[:512].decode(errors="ignore")


def _bytes(body: NewBody) -> bytes | StoredBody:
    return body.encode() if isinstance(body, str) else body


def _inline_size(body: bytes | StoredBody | None) -> int:
    return len(body) if isinstance(body, bytes) else 0


def _upload_parts(head: pb.UploadHead, body: bytes) -> Iterator[pb.UploadBodyRequest]:
    yield pb.UploadBodyRequest(head=head)
    for start in range(0, len(body), UPLOAD_CHUNK_BYTES):
        yield pb.UploadBodyRequest(chunk=body[start : start + UPLOAD_CHUNK_BYTES])
