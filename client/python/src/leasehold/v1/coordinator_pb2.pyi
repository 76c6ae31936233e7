import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_UNSPECIFIED: _ClassVar[Consistency]
    CONSISTENCY_BOUNDED: _ClassVar[Consistency]
    CONSISTENCY_STRICT: _ClassVar[Consistency]

class BodyDelivery(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BODY_DELIVERY_UNSPECIFIED: _ClassVar[BodyDelivery]
    BODY_DELIVERY_NONE: _ClassVar[BodyDelivery]
    BODY_DELIVERY_INLINE: _ClassVar[BodyDelivery]
    BODY_DELIVERY_URL: _ClassVar[BodyDelivery]

class StaleReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STALE_REASON_UNSPECIFIED: _ClassVar[StaleReason]
    STALE_REASON_EXPIRED: _ClassVar[StaleReason]
    STALE_REASON_INVALIDATED: _ClassVar[StaleReason]
    STALE_REASON_UNVERIFIED: _ClassVar[StaleReason]

class MissingReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSING_REASON_UNSPECIFIED: _ClassVar[MissingReason]
    MISSING_REASON_NEVER_RENDERED: _ClassVar[MissingReason]
    MISSING_REASON_PURGED: _ClassVar[MissingReason]
    MISSING_REASON_BODY_GONE: _ClassVar[MissingReason]

class CookieVariance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COOKIE_VARIANCE_UNSPECIFIED: _ClassVar[CookieVariance]
    COOKIE_VARIANCE_ALL: _ClassVar[CookieVariance]
    COOKIE_VARIANCE_NONE: _ClassVar[CookieVariance]
    COOKIE_VARIANCE_ALLOWLIST: _ClassVar[CookieVariance]

class BodyKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BODY_KIND_UNSPECIFIED: _ClassVar[BodyKind]
    BODY_KIND_HTML: _ClassVar[BodyKind]
    BODY_KIND_SIDECAR: _ClassVar[BodyKind]

class InvalidationDepth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVALIDATION_DEPTH_UNSPECIFIED: _ClassVar[InvalidationDepth]
    INVALIDATION_DEPTH_SOFT: _ClassVar[InvalidationDepth]
    INVALIDATION_DEPTH_HARD: _ClassVar[InvalidationDepth]

class ResyncReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESYNC_REASON_UNSPECIFIED: _ClassVar[ResyncReason]
    RESYNC_REASON_OTHER_RUN: _ClassVar[ResyncReason]
    RESYNC_REASON_TOO_OLD: _ClassVar[ResyncReason]
    RESYNC_REASON_SLOW: _ClassVar[ResyncReason]

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_FIELD: _ClassVar[ErrorReason]
    ERROR_REASON_TENANT_BOUNDARY: _ClassVar[ErrorReason]
    ERROR_REASON_OBJECT_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_OBJECT_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_CONSISTENCY_TOKEN_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_SIDECAR_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_PAGE_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_LIMIT_REACHED: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_OUTCOME_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE: _ClassVar[ErrorReason]
    ERROR_REASON_STORED_DATA_CORRUPT: _ClassVar[ErrorReason]
    ERROR_REASON_BODY_URL_UNSUPPORTED: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_OBJECT_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_UNAUTHENTICATED: _ClassVar[ErrorReason]
    ERROR_REASON_PERMISSION_DENIED: _ClassVar[ErrorReason]
CONSISTENCY_UNSPECIFIED: Consistency
CONSISTENCY_BOUNDED: Consistency
CONSISTENCY_STRICT: Consistency
BODY_DELIVERY_UNSPECIFIED: BodyDelivery
BODY_DELIVERY_NONE: BodyDelivery
BODY_DELIVERY_INLINE: BodyDelivery
BODY_DELIVERY_URL: BodyDelivery
STALE_REASON_UNSPECIFIED: StaleReason
STALE_REASON_EXPIRED: StaleReason
STALE_REASON_INVALIDATED: StaleReason
STALE_REASON_UNVERIFIED: StaleReason
MISSING_REASON_UNSPECIFIED: MissingReason
MISSING_REASON_NEVER_RENDERED: MissingReason
MISSING_REASON_PURGED: MissingReason
MISSING_REASON_BODY_GONE: MissingReason
COOKIE_VARIANCE_UNSPECIFIED: CookieVariance
COOKIE_VARIANCE_ALL: CookieVariance
COOKIE_VARIANCE_NONE: CookieVariance
COOKIE_VARIANCE_ALLOWLIST: CookieVariance
BODY_KIND_UNSPECIFIED: BodyKind
BODY_KIND_HTML: BodyKind
BODY_KIND_SIDECAR: BodyKind
INVALIDATION_DEPTH_UNSPECIFIED: InvalidationDepth
INVALIDATION_DEPTH_SOFT: InvalidationDepth
INVALIDATION_DEPTH_HARD: InvalidationDepth
RESYNC_REASON_UNSPECIFIED: ResyncReason
RESYNC_REASON_OTHER_RUN: ResyncReason
RESYNC_REASON_TOO_OLD: ResyncReason
RESYNC_REASON_SLOW: ResyncReason
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_FIELD: ErrorReason
ERROR_REASON_TENANT_BOUNDARY: ErrorReason
ERROR_REASON_OBJECT_MISSING: ErrorReason
ERROR_REASON_OBJECT_CONFLICT: ErrorReason
ERROR_REASON_CONSISTENCY_TOKEN_UNKNOWN: ErrorReason
ERROR_REASON_SIDECAR_NOT_FOUND: ErrorReason
ERROR_REASON_PAGE_NOT_FOUND: ErrorReason
ERROR_REASON_LIMIT_REACHED: ErrorReason
ERROR_REASON_STORE_UNAVAILABLE: ErrorReason
ERROR_REASON_OUTCOME_UNKNOWN: ErrorReason
ERROR_REASON_DRAINING: ErrorReason
ERROR_REASON_DEADLINE: ErrorReason
ERROR_REASON_STORED_DATA_CORRUPT: ErrorReason
ERROR_REASON_BODY_URL_UNSUPPORTED: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_OBJECT_NOT_FOUND: ErrorReason
ERROR_REASON_UNAUTHENTICATED: ErrorReason
ERROR_REASON_PERMISSION_DENIED: ErrorReason

class LookupRequest(_message.Message):
    __slots__ = ("entry", "consistency", "consistency_token", "body", "known_generation", "explain")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    KNOWN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    consistency: Consistency
    consistency_token: str
    body: BodyDelivery
    known_generation: int
    explain: bool
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., consistency_token: _Optional[str] = ..., body: _Optional[_Union[BodyDelivery, str]] = ..., known_generation: _Optional[int] = ..., explain: bool = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("regeneration", "state", "fresh", "stale", "missing")
    REGENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    regeneration: Regeneration
    state: EntryState
    fresh: FreshPage
    stale: StalePage
    missing: MissingPage
    def __init__(self, regeneration: _Optional[_Union[Regeneration, _Mapping]] = ..., state: _Optional[_Union[EntryState, _Mapping]] = ..., fresh: _Optional[_Union[FreshPage, _Mapping]] = ..., stale: _Optional[_Union[StalePage, _Mapping]] = ..., missing: _Optional[_Union[MissingPage, _Mapping]] = ...) -> None: ...

class LookupStreamRequest(_message.Message):
    __slots__ = ("id", "lookup", "timeout")
    ID_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    id: int
    lookup: LookupRequest
    timeout: _duration_pb2.Duration
    def __init__(self, id: _Optional[int] = ..., lookup: _Optional[_Union[LookupRequest, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LookupStreamResponse(_message.Message):
    __slots__ = ("id", "response", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    response: LookupResponse
    error: LookupError
    def __init__(self, id: _Optional[int] = ..., response: _Optional[_Union[LookupResponse, _Mapping]] = ..., error: _Optional[_Union[LookupError, _Mapping]] = ...) -> None: ...

class LookupError(_message.Message):
    __slots__ = ("code", "message", "status_details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    status_details: bytes
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., status_details: _Optional[bytes] = ...) -> None: ...

class AcquireLeaseRequest(_message.Message):
    __slots__ = ("entry", "request_id", "owner", "ttl", "wait", "consistency_token", "body", "known_generation", "retry")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    KNOWN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    request_id: bytes
    owner: str
    ttl: _duration_pb2.Duration
    wait: _duration_pb2.Duration
    consistency_token: str
    body: BodyDelivery
    known_generation: int
    retry: bool
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., request_id: _Optional[bytes] = ..., owner: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., consistency_token: _Optional[str] = ..., body: _Optional[_Union[BodyDelivery, str]] = ..., known_generation: _Optional[int] = ..., retry: bool = ...) -> None: ...

class AcquireLeaseResponse(_message.Message):
    __slots__ = ("granted", "ready", "held", "backing_off", "ended")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    BACKING_OFF_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    granted: LeaseGrant
    ready: PageReady
    held: LeaseHeld
    backing_off: BackingOff
    ended: LeaseEnded
    def __init__(self, granted: _Optional[_Union[LeaseGrant, _Mapping]] = ..., ready: _Optional[_Union[PageReady, _Mapping]] = ..., held: _Optional[_Union[LeaseHeld, _Mapping]] = ..., backing_off: _Optional[_Union[BackingOff, _Mapping]] = ..., ended: _Optional[_Union[LeaseEnded, _Mapping]] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("entry", "lease", "ttl")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    lease: LeaseRef
    ttl: _duration_pb2.Duration
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("renewed", "lost")
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    renewed: LeaseRenewed
    lost: LeaseLost
    def __init__(self, renewed: _Optional[_Union[LeaseRenewed, _Mapping]] = ..., lost: _Optional[_Union[LeaseLost, _Mapping]] = ...) -> None: ...

class ReleaseLeaseRequest(_message.Message):
    __slots__ = ("entry", "lease", "failure")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    lease: LeaseRef
    failure: str
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class ReleaseLeaseResponse(_message.Message):
    __slots__ = ("released", "not_held")
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    NOT_HELD_FIELD_NUMBER: _ClassVar[int]
    released: LeaseReleased
    not_held: LeaseNotHeld
    def __init__(self, released: _Optional[_Union[LeaseReleased, _Mapping]] = ..., not_held: _Optional[_Union[LeaseNotHeld, _Mapping]] = ...) -> None: ...

class CommitPointerRequest(_message.Message):
    __slots__ = ("entry", "lease", "html", "sidecar", "metadata")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    HTML_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    lease: LeaseRef
    html: BodySource
    sidecar: BodySource
    metadata: PageMetadata
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., html: _Optional[_Union[BodySource, _Mapping]] = ..., sidecar: _Optional[_Union[BodySource, _Mapping]] = ..., metadata: _Optional[_Union[PageMetadata, _Mapping]] = ...) -> None: ...

class CommitPointerResponse(_message.Message):
    __slots__ = ("committed", "committed_stale", "superseded", "fenced")
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_STALE_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    committed: CommitApplied
    committed_stale: CommitAppliedStale
    superseded: CommitSuperseded
    fenced: CommitFenced
    def __init__(self, committed: _Optional[_Union[CommitApplied, _Mapping]] = ..., committed_stale: _Optional[_Union[CommitAppliedStale, _Mapping]] = ..., superseded: _Optional[_Union[CommitSuperseded, _Mapping]] = ..., fenced: _Optional[_Union[CommitFenced, _Mapping]] = ...) -> None: ...

class UploadBodyRequest(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: UploadHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[UploadHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadBodyResponse(_message.Message):
    __slots__ = ("uploaded", "fenced", "superseded")
    UPLOADED_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    uploaded: UploadedBody
    fenced: CommitFenced
    superseded: CommitSuperseded
    def __init__(self, uploaded: _Optional[_Union[UploadedBody, _Mapping]] = ..., fenced: _Optional[_Union[CommitFenced, _Mapping]] = ..., superseded: _Optional[_Union[CommitSuperseded, _Mapping]] = ...) -> None: ...

class ServeSidecarRequest(_message.Message):
    __slots__ = ("entry", "sidecar_token", "consistency_token")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    sidecar_token: str
    consistency_token: str
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., sidecar_token: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class ServeSidecarResponse(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: SidecarHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[SidecarHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ServeObjectRequest(_message.Message):
    __slots__ = ("tenant", "object_name", "consistency_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    object_name: str
    consistency_token: str
    def __init__(self, tenant: _Optional[str] = ..., object_name: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class ServeObjectResponse(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: ObjectHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[ObjectHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ServePageRequest(_message.Message):
    __slots__ = ("entry", "consistency", "consistency_token")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    consistency: Consistency
    consistency_token: str
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class ServePageResponse(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: ServePageHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[ServePageHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class InvalidateRequest(_message.Message):
    __slots__ = ("request_id", "scopes", "depth")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    scopes: _containers.RepeatedCompositeFieldContainer[InvalidationScope]
    depth: InvalidationDepth
    def __init__(self, request_id: _Optional[bytes] = ..., scopes: _Optional[_Iterable[_Union[InvalidationScope, _Mapping]]] = ..., depth: _Optional[_Union[InvalidationDepth, str]] = ...) -> None: ...

class InvalidateResponse(_message.Message):
    __slots__ = ("consistency_token",)
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    consistency_token: str
    def __init__(self, consistency_token: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("filters", "resume_token")
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[WatchFilter]
    resume_token: str
    def __init__(self, filters: _Optional[_Iterable[_Union[WatchFilter, _Mapping]]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("resume_token", "started", "resync", "committed", "invalidated", "progress", "ended")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    INVALIDATED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    started: WatchStarted
    resync: WatchResync
    committed: PageCommitted
    invalidated: PagesInvalidated
    progress: WatchProgress
    ended: WatchEnded
    def __init__(self, resume_token: _Optional[str] = ..., started: _Optional[_Union[WatchStarted, _Mapping]] = ..., resync: _Optional[_Union[WatchResync, _Mapping]] = ..., committed: _Optional[_Union[PageCommitted, _Mapping]] = ..., invalidated: _Optional[_Union[PagesInvalidated, _Mapping]] = ..., progress: _Optional[_Union[WatchProgress, _Mapping]] = ..., ended: _Optional[_Union[WatchEnded, _Mapping]] = ...) -> None: ...

class EntryRef(_message.Message):
    __slots__ = ("tenant", "deployment", "key", "request", "path")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    deployment: str
    key: str
    request: PageRequest
    path: str
    def __init__(self, tenant: _Optional[str] = ..., deployment: _Optional[str] = ..., key: _Optional[str] = ..., request: _Optional[_Union[PageRequest, _Mapping]] = ..., path: _Optional[str] = ...) -> None: ...

class PageRequest(_message.Message):
    __slots__ = ("route", "params", "query", "headers", "cookies", "ignore_credentials", "cookie_variance", "cookie_allowlist")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    COOKIES_FIELD_NUMBER: _ClassVar[int]
    IGNORE_CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    COOKIE_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    COOKIE_ALLOWLIST_FIELD_NUMBER: _ClassVar[int]
    route: str
    params: _containers.RepeatedCompositeFieldContainer[NameValue]
    query: _containers.RepeatedCompositeFieldContainer[NameValues]
    headers: _containers.RepeatedCompositeFieldContainer[NameValues]
    cookies: _containers.RepeatedCompositeFieldContainer[NameValue]
    ignore_credentials: bool
    cookie_variance: CookieVariance
    cookie_allowlist: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, route: _Optional[str] = ..., params: _Optional[_Iterable[_Union[NameValue, _Mapping]]] = ..., query: _Optional[_Iterable[_Union[NameValues, _Mapping]]] = ..., headers: _Optional[_Iterable[_Union[NameValues, _Mapping]]] = ..., cookies: _Optional[_Iterable[_Union[NameValue, _Mapping]]] = ..., ignore_credentials: bool = ..., cookie_variance: _Optional[_Union[CookieVariance, str]] = ..., cookie_allowlist: _Optional[_Iterable[str]] = ...) -> None: ...

class NameValue(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class NameValues(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class Page(_message.Message):
    __slots__ = ("generation", "metadata", "generated_at", "age", "body_unchanged", "body_too_large", "size_bytes", "digest", "sidecar_token", "url", "inline", "html_object_name", "sidecar_object_name")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    GENERATED_AT_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    BODY_UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    BODY_TOO_LARGE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    HTML_OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    generation: int
    metadata: PageMetadata
    generated_at: _timestamp_pb2.Timestamp
    age: _duration_pb2.Duration
    body_unchanged: bool
    body_too_large: bool
    size_bytes: int
    digest: bytes
    sidecar_token: str
    url: str
    inline: bytes
    html_object_name: str
    sidecar_object_name: str
    def __init__(self, generation: _Optional[int] = ..., metadata: _Optional[_Union[PageMetadata, _Mapping]] = ..., generated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., body_unchanged: bool = ..., body_too_large: bool = ..., size_bytes: _Optional[int] = ..., digest: _Optional[bytes] = ..., sidecar_token: _Optional[str] = ..., url: _Optional[str] = ..., inline: _Optional[bytes] = ..., html_object_name: _Optional[str] = ..., sidecar_object_name: _Optional[str] = ...) -> None: ...

class FreshPage(_message.Message):
    __slots__ = ("fresh_for", "page")
    FRESH_FOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    fresh_for: _duration_pb2.Duration
    page: Page
    def __init__(self, fresh_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., page: _Optional[_Union[Page, _Mapping]] = ...) -> None: ...

class StalePage(_message.Message):
    __slots__ = ("reason", "stale_while_revalidate_for", "stale_if_error_for", "page")
    REASON_FIELD_NUMBER: _ClassVar[int]
    STALE_WHILE_REVALIDATE_FOR_FIELD_NUMBER: _ClassVar[int]
    STALE_IF_ERROR_FOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    reason: StaleReason
    stale_while_revalidate_for: _duration_pb2.Duration
    stale_if_error_for: _duration_pb2.Duration
    page: Page
    def __init__(self, reason: _Optional[_Union[StaleReason, str]] = ..., stale_while_revalidate_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stale_if_error_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., page: _Optional[_Union[Page, _Mapping]] = ...) -> None: ...

class MissingPage(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: MissingReason
    def __init__(self, reason: _Optional[_Union[MissingReason, str]] = ...) -> None: ...

class PageMetadata(_message.Message):
    __slots__ = ("status", "content_type", "headers", "etag", "revalidate", "stale_while_revalidate", "stale_if_error", "tags", "path", "render_time")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REVALIDATE_FIELD_NUMBER: _ClassVar[int]
    STALE_WHILE_REVALIDATE_FIELD_NUMBER: _ClassVar[int]
    STALE_IF_ERROR_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    RENDER_TIME_FIELD_NUMBER: _ClassVar[int]
    status: int
    content_type: str
    headers: _containers.RepeatedCompositeFieldContainer[NameValue]
    etag: str
    revalidate: _duration_pb2.Duration
    stale_while_revalidate: _duration_pb2.Duration
    stale_if_error: _duration_pb2.Duration
    tags: _containers.RepeatedScalarFieldContainer[str]
    path: str
    render_time: _duration_pb2.Duration
    def __init__(self, status: _Optional[int] = ..., content_type: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[NameValue, _Mapping]]] = ..., etag: _Optional[str] = ..., revalidate: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stale_while_revalidate: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stale_if_error: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., path: _Optional[str] = ..., render_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Regeneration(_message.Message):
    __slots__ = ("owner", "generation", "remaining")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    owner: str
    generation: int
    remaining: _duration_pb2.Duration
    def __init__(self, owner: _Optional[str] = ..., generation: _Optional[int] = ..., remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeaseGrant(_message.Message):
    __slots__ = ("generation", "remaining", "renewable_for", "html_object", "sidecar_object", "sidecar_token", "previous")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RENEWABLE_FOR_FIELD_NUMBER: _ClassVar[int]
    HTML_OBJECT_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_OBJECT_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    remaining: _duration_pb2.Duration
    renewable_for: _duration_pb2.Duration
    html_object: str
    sidecar_object: str
    sidecar_token: str
    previous: StalePage
    def __init__(self, generation: _Optional[int] = ..., remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., renewable_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., html_object: _Optional[str] = ..., sidecar_object: _Optional[str] = ..., sidecar_token: _Optional[str] = ..., previous: _Optional[_Union[StalePage, _Mapping]] = ...) -> None: ...

class PageReady(_message.Message):
    __slots__ = ("fresh", "stale")
    FRESH_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    fresh: FreshPage
    stale: StalePage
    def __init__(self, fresh: _Optional[_Union[FreshPage, _Mapping]] = ..., stale: _Optional[_Union[StalePage, _Mapping]] = ...) -> None: ...

class LeaseHeld(_message.Message):
    __slots__ = ("regeneration", "previous")
    REGENERATION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    regeneration: Regeneration
    previous: StalePage
    def __init__(self, regeneration: _Optional[_Union[Regeneration, _Mapping]] = ..., previous: _Optional[_Union[StalePage, _Mapping]] = ...) -> None: ...

class BackingOff(_message.Message):
    __slots__ = ("remaining", "failures", "reason", "previous")
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    remaining: _duration_pb2.Duration
    failures: int
    reason: str
    previous: StalePage
    def __init__(self, remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., failures: _Optional[int] = ..., reason: _Optional[str] = ..., previous: _Optional[_Union[StalePage, _Mapping]] = ...) -> None: ...

class LeaseEnded(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaseRef(_message.Message):
    __slots__ = ("request_id", "generation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    generation: int
    def __init__(self, request_id: _Optional[bytes] = ..., generation: _Optional[int] = ...) -> None: ...

class LeaseRenewed(_message.Message):
    __slots__ = ("remaining", "renewable_for")
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RENEWABLE_FOR_FIELD_NUMBER: _ClassVar[int]
    remaining: _duration_pb2.Duration
    renewable_for: _duration_pb2.Duration
    def __init__(self, remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., renewable_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeaseLost(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaseReleased(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaseNotHeld(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BodySource(_message.Message):
    __slots__ = ("inline", "stored", "object_name")
    INLINE_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    inline: bytes
    stored: StoredBody
    object_name: str
    def __init__(self, inline: _Optional[bytes] = ..., stored: _Optional[_Union[StoredBody, _Mapping]] = ..., object_name: _Optional[str] = ...) -> None: ...

class StoredBody(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    size_bytes: int
    def __init__(self, digest: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class CommitApplied(_message.Message):
    __slots__ = ("etag", "sidecar_token", "html_object_name", "sidecar_object_name")
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HTML_OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    etag: str
    sidecar_token: str
    html_object_name: str
    sidecar_object_name: str
    def __init__(self, etag: _Optional[str] = ..., sidecar_token: _Optional[str] = ..., html_object_name: _Optional[str] = ..., sidecar_object_name: _Optional[str] = ...) -> None: ...

class CommitAppliedStale(_message.Message):
    __slots__ = ("etag", "sidecar_token", "purged", "html_object_name", "sidecar_object_name")
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PURGED_FIELD_NUMBER: _ClassVar[int]
    HTML_OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    etag: str
    sidecar_token: str
    purged: bool
    html_object_name: str
    sidecar_object_name: str
    def __init__(self, etag: _Optional[str] = ..., sidecar_token: _Optional[str] = ..., purged: bool = ..., html_object_name: _Optional[str] = ..., sidecar_object_name: _Optional[str] = ...) -> None: ...

class CommitSuperseded(_message.Message):
    __slots__ = ("current_generation",)
    CURRENT_GENERATION_FIELD_NUMBER: _ClassVar[int]
    current_generation: int
    def __init__(self, current_generation: _Optional[int] = ...) -> None: ...

class CommitFenced(_message.Message):
    __slots__ = ("latest_generation",)
    LATEST_GENERATION_FIELD_NUMBER: _ClassVar[int]
    latest_generation: int
    def __init__(self, latest_generation: _Optional[int] = ...) -> None: ...

class UploadHead(_message.Message):
    __slots__ = ("entry", "lease", "kind", "content_type", "object_name")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_NAME_FIELD_NUMBER: _ClassVar[int]
    entry: EntryRef
    lease: LeaseRef
    kind: BodyKind
    content_type: str
    object_name: str
    def __init__(self, entry: _Optional[_Union[EntryRef, _Mapping]] = ..., lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., kind: _Optional[_Union[BodyKind, str]] = ..., content_type: _Optional[str] = ..., object_name: _Optional[str] = ...) -> None: ...

class UploadedBody(_message.Message):
    __slots__ = ("object", "digest", "size_bytes")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    object: str
    digest: bytes
    size_bytes: int
    def __init__(self, object: _Optional[str] = ..., digest: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class SidecarHead(_message.Message):
    __slots__ = ("content_type", "size_bytes")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    size_bytes: int
    def __init__(self, content_type: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ObjectHead(_message.Message):
    __slots__ = ("content_type", "size_bytes", "kind", "digest")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    size_bytes: int
    kind: BodyKind
    digest: bytes
    def __init__(self, content_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., kind: _Optional[_Union[BodyKind, str]] = ..., digest: _Optional[bytes] = ...) -> None: ...

class ServePageHead(_message.Message):
    __slots__ = ("fresh", "stale")
    FRESH_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    fresh: FreshPage
    stale: StalePage
    def __init__(self, fresh: _Optional[_Union[FreshPage, _Mapping]] = ..., stale: _Optional[_Union[StalePage, _Mapping]] = ...) -> None: ...

class InvalidationScope(_message.Message):
    __slots__ = ("tenant", "everything", "whole_tenant", "deployment", "path_prefix", "tag", "key")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    WHOLE_TENANT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    PATH_PREFIX_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    everything: Everything
    whole_tenant: WholeTenant
    deployment: str
    path_prefix: str
    tag: str
    key: str
    def __init__(self, tenant: _Optional[str] = ..., everything: _Optional[_Union[Everything, _Mapping]] = ..., whole_tenant: _Optional[_Union[WholeTenant, _Mapping]] = ..., deployment: _Optional[str] = ..., path_prefix: _Optional[str] = ..., tag: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class Everything(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WholeTenant(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchFilter(_message.Message):
    __slots__ = ("tenant", "whole_tenant", "tag", "key")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_TENANT_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    whole_tenant: WholeTenant
    tag: str
    key: str
    def __init__(self, tenant: _Optional[str] = ..., whole_tenant: _Optional[_Union[WholeTenant, _Mapping]] = ..., tag: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class WatchStarted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResync(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: ResyncReason
    def __init__(self, reason: _Optional[_Union[ResyncReason, str]] = ...) -> None: ...

class WatchProgress(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchEnded(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PageCommitted(_message.Message):
    __slots__ = ("tenant", "deployment", "key", "generation", "tags", "stale")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    deployment: str
    key: str
    generation: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    stale: bool
    def __init__(self, tenant: _Optional[str] = ..., deployment: _Optional[str] = ..., key: _Optional[str] = ..., generation: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., stale: bool = ...) -> None: ...

class PagesInvalidated(_message.Message):
    __slots__ = ("scopes", "depth", "at", "consistency_token")
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    scopes: _containers.RepeatedCompositeFieldContainer[InvalidationScope]
    depth: InvalidationDepth
    at: _timestamp_pb2.Timestamp
    consistency_token: str
    def __init__(self, scopes: _Optional[_Iterable[_Union[InvalidationScope, _Mapping]]] = ..., depth: _Optional[_Union[InvalidationDepth, str]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class EntryState(_message.Message):
    __slots__ = ("tenant", "deployment", "key", "generation", "pointer", "fresh_until", "body_gone", "lease", "backoff", "invalidation", "log_position", "log_age", "log_verified", "seen")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    POINTER_FIELD_NUMBER: _ClassVar[int]
    FRESH_UNTIL_FIELD_NUMBER: _ClassVar[int]
    BODY_GONE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    INVALIDATION_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_AGE_FIELD_NUMBER: _ClassVar[int]
    LOG_VERIFIED_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    deployment: str
    key: str
    generation: int
    pointer: Page
    fresh_until: _timestamp_pb2.Timestamp
    body_gone: bool
    lease: LeaseState
    backoff: BackoffState
    invalidation: InvalidationState
    log_position: int
    log_age: _duration_pb2.Duration
    log_verified: bool
    seen: int
    def __init__(self, tenant: _Optional[str] = ..., deployment: _Optional[str] = ..., key: _Optional[str] = ..., generation: _Optional[int] = ..., pointer: _Optional[_Union[Page, _Mapping]] = ..., fresh_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., body_gone: bool = ..., lease: _Optional[_Union[LeaseState, _Mapping]] = ..., backoff: _Optional[_Union[BackoffState, _Mapping]] = ..., invalidation: _Optional[_Union[InvalidationState, _Mapping]] = ..., log_position: _Optional[int] = ..., log_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., log_verified: bool = ..., seen: _Optional[int] = ...) -> None: ...

class LeaseState(_message.Message):
    __slots__ = ("owner", "generation", "granted_at", "expires_at", "hold_until", "expired", "overtaken")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GRANTED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    HOLD_UNTIL_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    OVERTAKEN_FIELD_NUMBER: _ClassVar[int]
    owner: str
    generation: int
    granted_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    hold_until: _timestamp_pb2.Timestamp
    expired: bool
    overtaken: bool
    def __init__(self, owner: _Optional[str] = ..., generation: _Optional[int] = ..., granted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., hold_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expired: bool = ..., overtaken: bool = ...) -> None: ...

class BackoffState(_message.Message):
    __slots__ = ("failures", "not_before", "failed_at", "reason")
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    failures: int
    not_before: _timestamp_pb2.Timestamp
    failed_at: _timestamp_pb2.Timestamp
    reason: str
    def __init__(self, failures: _Optional[int] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class InvalidationState(_message.Message):
    __slots__ = ("seq", "at", "scopes", "depth", "applies")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    APPLIES_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at: _timestamp_pb2.Timestamp
    scopes: _containers.RepeatedCompositeFieldContainer[InvalidationScope]
    depth: InvalidationDepth
    applies: bool
    def __init__(self, seq: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scopes: _Optional[_Iterable[_Union[InvalidationScope, _Mapping]]] = ..., depth: _Optional[_Union[InvalidationDepth, str]] = ..., applies: bool = ...) -> None: ...
