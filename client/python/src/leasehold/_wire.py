"""Between the wire's messages and this package's types: the only module that knows both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import NoReturn, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from leasehold import _arguments, invalidation, outcomes, page, watching
from leasehold.entry import AllCookies, EntryRef, NamedValues, NoCookies, OnlyCookies, PageRequest
from leasehold.errors import ConfigurationError, ProtocolError
from leasehold.ids import ConsistencyToken, RequestId, ResumeToken, SidecarToken
from leasehold.v1 import coordinator_pb2 as pb

T = TypeVar("T")


def malformed(what: str) -> NoReturn:
    raise ProtocolError(f"the answer breaks the contract: {what}")


def which(message: Message, oneof: str) -> str | None:
    """The name of the field that is set. The stubs of different versions of protobuf disagree about its type."""
    name = message.WhichOneof(oneof)
    return None if name is None else str(name)


# Durations and timestamps.


def to_duration(field: str, seconds: float) -> Duration:
    """``ConfigurationError`` for what is no span of time."""
    _arguments.seconds(field, seconds)
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigurationError(f"{field}: not a span of time in seconds: {seconds}")
    # What is beyond the wire's range is cut: no coordinator accepts such a span anyway.
    nanoseconds = round(min(seconds, 3e11) * 1e9)
    return Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def to_optional_duration(field: str, seconds: float | None) -> Duration | None:
    return None if seconds is None else to_duration(field, seconds)


def seconds_of(span: Duration) -> float:
    if span.seconds < 0 or span.nanos < 0:
        malformed("a duration")
    return span.seconds + span.nanos / 1e9


def optional_seconds(message: Message, field: str) -> float | None:
    return seconds_of(getattr(message, field)) if message.HasField(field) else None


def optional_time(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    try:
        return datetime.fromtimestamp(stamp.seconds, timezone.utc) + timedelta(
            microseconds=stamp.nanos / 1000
        )
    except (OverflowError, ValueError, OSError):
        malformed("a timestamp")


# Requests.


def to_entry(entry: EntryRef) -> pb.EntryRef:
    _arguments.of("entry", entry, EntryRef)
    wire = pb.EntryRef(tenant=entry.tenant, deployment=entry.deployment, path=entry.path)
    if isinstance(entry.name, PageRequest):
        wire.request.CopyFrom(_to_request(entry.name))
    else:
        wire.key = entry.name
    return wire


def _to_request(request: PageRequest) -> pb.PageRequest:
    wire = pb.PageRequest(
        route=request.route,
        params=[pb.NameValue(name=name, value=value) for name, value in request.params.items()],
        query=_to_values(request.query),
        headers=_to_values(request.headers),
        cookies=[pb.NameValue(name=name, value=value) for name, value in request.cookies],
        ignore_credentials=request.ignore_credentials,
    )
    match request.cookie_variance:
        case AllCookies():
            wire.cookie_variance = pb.CookieVariance.COOKIE_VARIANCE_ALL
        case NoCookies():
            wire.cookie_variance = pb.CookieVariance.COOKIE_VARIANCE_NONE
        case OnlyCookies(names=names):
            wire.cookie_variance = pb.CookieVariance.COOKIE_VARIANCE_ALLOWLIST
            wire.cookie_allowlist.extend(names)
    return wire


def _to_values(named: NamedValues) -> list[pb.NameValues]:
    return [pb.NameValues(name=name, values=values) for name, values in named.items()]


def to_consistency(consistency: page.Consistency) -> pb.Consistency:
    match consistency:
        case page.Consistency.BOUNDED:
            return pb.Consistency.CONSISTENCY_BOUNDED
        case page.Consistency.STRICT:
            return pb.Consistency.CONSISTENCY_STRICT
        case _:
            _arguments.refuse("consistency", "be Consistency", consistency)


def to_delivery(delivery: page.BodyDelivery) -> pb.BodyDelivery:
    match delivery:
        case page.BodyDelivery.NONE:
            return pb.BodyDelivery.BODY_DELIVERY_NONE
        case page.BodyDelivery.INLINE:
            return pb.BodyDelivery.BODY_DELIVERY_INLINE
        case page.BodyDelivery.URL:
            return pb.BodyDelivery.BODY_DELIVERY_URL
        case _:
            _arguments.refuse("body", "be BodyDelivery", delivery)


def to_kind(kind: outcomes.BodyKind) -> pb.BodyKind:
    match kind:
        case outcomes.BodyKind.HTML:
            return pb.BodyKind.BODY_KIND_HTML
        case outcomes.BodyKind.SIDECAR:
            return pb.BodyKind.BODY_KIND_SIDECAR
        case _:
            _arguments.refuse("kind", "be BodyKind", kind)


def parse_kind(kind: pb.BodyKind) -> outcomes.BodyKind:
    match kind:
        case pb.BodyKind.BODY_KIND_HTML:
            return outcomes.BodyKind.HTML
        case pb.BodyKind.BODY_KIND_SIDECAR:
            return outcomes.BodyKind.SIDECAR
        case _:
            malformed("the kind of an object")


def to_lease(request_id: RequestId, generation: int) -> pb.LeaseRef:
    return pb.LeaseRef(request_id=request_id.expose(), generation=generation)


def to_stored(body: outcomes.StoredBody, name: str | None) -> pb.BodySource:
    stored = pb.StoredBody(digest=body.digest, size_bytes=body.size_bytes)
    return pb.BodySource(stored=stored, object_name=name or "")


def to_metadata(metadata: page.PageMetadata) -> pb.PageMetadata:
    return pb.PageMetadata(
        status=metadata.status,
        content_type=metadata.content_type or "",
        headers=[pb.NameValue(name=name, value=value) for name, value in metadata.headers],
        etag=metadata.etag or "",
        revalidate=to_optional_duration("revalidate_seconds", metadata.revalidate_seconds),
        stale_while_revalidate=to_optional_duration(
            "stale_while_revalidate_seconds", metadata.stale_while_revalidate_seconds
        ),
        stale_if_error=to_optional_duration("stale_if_error_seconds", metadata.stale_if_error_seconds),
        tags=metadata.tags,
        path=metadata.path or "",
        render_time=to_optional_duration("render_seconds", metadata.render_seconds),
    )


def to_depth(depth: invalidation.Depth) -> pb.InvalidationDepth:
    match depth:
        case invalidation.Depth.SOFT:
            return pb.InvalidationDepth.INVALIDATION_DEPTH_SOFT
        case invalidation.Depth.HARD:
            return pb.InvalidationDepth.INVALIDATION_DEPTH_HARD
        case _:
            _arguments.refuse("depth", "be Depth", depth)


def to_scope(scope: invalidation.Scope) -> pb.InvalidationScope:
    match scope:
        case invalidation.Everything():
            return pb.InvalidationScope(everything=pb.Everything())
        case invalidation.WholeTenant(tenant=tenant):
            return pb.InvalidationScope(tenant=tenant, whole_tenant=pb.WholeTenant())
        case invalidation.Deployment(deployment=deployment, tenant=tenant):
            return pb.InvalidationScope(tenant=tenant, deployment=deployment)
        case invalidation.PathPrefix(prefix=prefix, tenant=tenant):
            return pb.InvalidationScope(tenant=tenant, path_prefix=prefix)
        case invalidation.Tag(tag=tag, tenant=tenant):
            return pb.InvalidationScope(tenant=tenant, tag=tag)
        case invalidation.Key(key=key, tenant=tenant):
            return pb.InvalidationScope(tenant=tenant, key=key)
        case _:
            kinds = "Everything, WholeTenant, Deployment, PathPrefix, Tag or Key"
            _arguments.refuse("scopes", f"be {kinds}", scope)


def to_filter(watched: watching.WatchFilter) -> pb.WatchFilter:
    match watched:
        case invalidation.WholeTenant(tenant=tenant):
            return pb.WatchFilter(tenant=tenant, whole_tenant=pb.WholeTenant())
        case invalidation.Tag(tag=tag, tenant=tenant):
            return pb.WatchFilter(tenant=tenant, tag=tag)
        case invalidation.Key(key=key, tenant=tenant):
            return pb.WatchFilter(tenant=tenant, key=key)
        case _:
            _arguments.refuse("filters", "be WholeTenant, Tag or Key", watched)


# Answers.


def sidecar_token(text: str) -> SidecarToken | None:
    """The wire says "none" by the empty text."""
    return SidecarToken(text) if text else None


def parse_page(wire: pb.Page) -> page.Page:
    return page.Page(
        generation=wire.generation,
        metadata=parse_metadata(wire.metadata),
        generated_at=optional_time(wire, "generated_at"),
        age_seconds=seconds_of(wire.age),
        body=_parse_body(wire),
        size_bytes=wire.size_bytes,
        digest=wire.digest,
        sidecar_token=sidecar_token(wire.sidecar_token),
        html_name=wire.html_object_name or None,
        sidecar_name=wire.sidecar_object_name or None,
    )


def _parse_body(wire: pb.Page) -> page.PageBody:
    match which(wire, "body"):
        case "inline":
            return page.Inline(wire.inline)
        case "url":
            return page.Url(wire.url)
    if wire.body_unchanged:
        return page.Unchanged()
    return page.TooLarge() if wire.body_too_large else page.Omitted()


def parse_metadata(wire: pb.PageMetadata) -> page.PageMetadata:
    return page.PageMetadata(
        status=wire.status or 200,
        content_type=wire.content_type or None,
        headers=tuple((header.name, header.value) for header in wire.headers),
        etag=wire.etag or None,
        revalidate_seconds=optional_seconds(wire, "revalidate"),
        stale_while_revalidate_seconds=optional_seconds(wire, "stale_while_revalidate"),
        stale_if_error_seconds=optional_seconds(wire, "stale_if_error"),
        tags=tuple(wire.tags),
        path=wire.path or None,
        render_seconds=optional_seconds(wire, "render_time"),
    )


def parse_fresh(wire: pb.FreshPage) -> page.FreshPage:
    if not wire.HasField("page"):
        malformed("a page")
    return page.FreshPage(parse_page(wire.page), optional_seconds(wire, "fresh_for"))


_STALE_REASONS = {
    pb.StaleReason.STALE_REASON_EXPIRED: page.StaleReason.EXPIRED,
    pb.StaleReason.STALE_REASON_INVALIDATED: page.StaleReason.INVALIDATED,
    pb.StaleReason.STALE_REASON_UNVERIFIED: page.StaleReason.UNVERIFIED,
}


def parse_stale(wire: pb.StalePage) -> page.StalePage:
    if not wire.HasField("page"):
        malformed("a page")
    return page.StalePage(
        page=parse_page(wire.page),
        reason=_STALE_REASONS.get(wire.reason, page.StaleReason.OTHER),
        stale_while_revalidate_for_seconds=optional_seconds(wire, "stale_while_revalidate_for"),
        stale_if_error_for_seconds=optional_seconds(wire, "stale_if_error_for"),
    )


def parse_current(wire: pb.PageReady | pb.ServePageHead) -> page.FreshPage | page.StalePage:
    match which(wire, "page"):
        case "fresh":
            return parse_fresh(wire.fresh)
        case "stale":
            return parse_stale(wire.stale)
        case _:
            malformed("a page that is fresh or stale")


_MISSING_REASONS = {
    pb.MissingReason.MISSING_REASON_NEVER_RENDERED: page.MissingReason.NEVER_RENDERED,
    pb.MissingReason.MISSING_REASON_PURGED: page.MissingReason.PURGED,
    pb.MissingReason.MISSING_REASON_BODY_GONE: page.MissingReason.BODY_GONE,
}


def _parse_regeneration(wire: pb.Regeneration) -> page.Regeneration:
    return page.Regeneration(wire.owner, wire.generation, seconds_of(wire.remaining))


def parse_lookup(wire: pb.LookupResponse) -> outcomes.LookupReply:
    outcome: page.FreshPage | page.StalePage | page.MissingPage
    match which(wire, "outcome"):
        case "fresh":
            outcome = parse_fresh(wire.fresh)
        case "stale":
            outcome = parse_stale(wire.stale)
        case "missing":
            reason = _MISSING_REASONS.get(wire.missing.reason, page.MissingReason.OTHER)
            outcome = page.MissingPage(reason)
        case _:
            malformed("the outcome of a lookup")
    regeneration = _parse_regeneration(wire.regeneration) if wire.HasField("regeneration") else None
    return outcomes.LookupReply(outcome, regeneration)


def parse_previous(wire: pb.LeaseGrant | pb.LeaseHeld | pb.BackingOff) -> page.StalePage | None:
    return parse_stale(wire.previous) if wire.HasField("previous") else None


def parse_held(wire: pb.LeaseHeld) -> outcomes.Held:
    if not wire.HasField("regeneration"):
        malformed("the holder of a lease")
    return outcomes.Held(_parse_regeneration(wire.regeneration), parse_previous(wire))


def parse_backing_off(wire: pb.BackingOff) -> outcomes.BackingOff:
    return outcomes.BackingOff(seconds_of(wire.remaining), wire.failures, wire.reason, parse_previous(wire))


def parse_commit(wire: pb.CommitPointerResponse) -> outcomes.Commit:
    match which(wire, "outcome"):
        case "committed":
            applied = wire.committed
            return outcomes.Committed(
                etag=applied.etag,
                sidecar_token=sidecar_token(applied.sidecar_token),
                html_name=applied.html_object_name or None,
                sidecar_name=applied.sidecar_object_name or None,
            )
        case "committed_stale":
            stale = wire.committed_stale
            return outcomes.CommittedStale(
                etag=stale.etag,
                sidecar_token=sidecar_token(stale.sidecar_token),
                purged=stale.purged,
                html_name=stale.html_object_name or None,
                sidecar_name=stale.sidecar_object_name or None,
            )
        case "superseded":
            return outcomes.Superseded(wire.superseded.current_generation)
        case "fenced":
            return outcomes.Fenced(wire.fenced.latest_generation)
        case _:
            malformed("the outcome of a commit")


def parse_upload(wire: pb.UploadBodyResponse) -> outcomes.Upload:
    match which(wire, "outcome"):
        case "uploaded":
            body = outcomes.StoredBody(wire.uploaded.digest, wire.uploaded.size_bytes)
            return outcomes.Uploaded(body, wire.uploaded.object)
        case "fenced":
            return outcomes.Fenced(wire.fenced.latest_generation)
        case "superseded":
            return outcomes.Superseded(wire.superseded.current_generation)
        case _:
            malformed("the outcome of an upload")


def parse_scope(wire: pb.InvalidationScope) -> invalidation.Scope:
    match which(wire, "scope"):
        case "everything":
            return invalidation.Everything()
        case "whole_tenant":
            return invalidation.WholeTenant(wire.tenant)
        case "deployment":
            return invalidation.Deployment(wire.deployment, wire.tenant)
        case "path_prefix":
            return invalidation.PathPrefix(wire.path_prefix, wire.tenant)
        case "tag":
            return invalidation.Tag(wire.tag, wire.tenant)
        case "key":
            return invalidation.Key(wire.key, wire.tenant)
        case _:
            malformed("the scope of an invalidation")


def _parse_scopes(scopes: Iterable[pb.InvalidationScope]) -> tuple[invalidation.Scope, ...]:
    return tuple(parse_scope(scope) for scope in scopes)


_RESYNC_REASONS = {
    pb.ResyncReason.RESYNC_REASON_OTHER_RUN: watching.ResyncReason.OTHER_RUN,
    pb.ResyncReason.RESYNC_REASON_TOO_OLD: watching.ResyncReason.TOO_OLD,
    pb.ResyncReason.RESYNC_REASON_SLOW: watching.ResyncReason.SLOW,
}


def parse_event(wire: pb.WatchResponse) -> watching.WatchMessage | None:
    """``None``: the coordinator goes down."""
    event: watching.WatchEvent
    match which(wire, "event"):
        case "started":
            event = watching.WatchStarted()
        case "resync":
            reason = _RESYNC_REASONS.get(wire.resync.reason, watching.ResyncReason.OTHER)
            event = watching.WatchResync(reason)
        case "committed":
            new = wire.committed
            event = watching.PageCommitted(
                new.tenant, new.deployment, new.key, new.generation, tuple(new.tags), new.stale
            )
        case "invalidated":
            is_hard = wire.invalidated.depth == pb.InvalidationDepth.INVALIDATION_DEPTH_HARD
            event = watching.PagesInvalidated(
                scopes=_parse_scopes(wire.invalidated.scopes),
                depth=invalidation.Depth.HARD if is_hard else invalidation.Depth.SOFT,
                at=optional_time(wire.invalidated, "at"),
                consistency_token=ConsistencyToken(wire.invalidated.consistency_token),
            )
        case "progress":
            event = watching.WatchProgress()
        case "ended":
            return None
        case _:
            malformed("the event of a watch")
    return watching.WatchMessage(ResumeToken(wire.resume_token), event)
