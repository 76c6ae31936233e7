"""What calls answer: dataclasses to ``match`` on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from leasehold.ids import SidecarToken
from leasehold.page import FreshPage, MissingPage, PageMetadata, Regeneration, StalePage

L = TypeVar("L", covariant=True)


@dataclass(frozen=True)
class LookupReply:
    """The answer to a lookup."""

    outcome: FreshPage | StalePage | MissingPage
    """What is current."""
    regeneration: Regeneration | None
    """Who renders the entry now. ``None``: nobody, as far as the coordinator that was asked knows."""


@dataclass(frozen=True)
class Granted(Generic[L]):
    """Render the page."""

    lease: L
    """The right to do so."""


@dataclass(frozen=True)
class Ready:
    """Nothing to do: here is the page. Fresh; or, after a wait, the one that was regenerated meanwhile."""

    current: FreshPage | StalePage
    """The page."""


@dataclass(frozen=True)
class Held:
    """Another renders, and still did so when the wait was over."""

    regeneration: Regeneration
    """Who renders."""
    previous: StalePage | None
    """The page so far. ``None``: there is none that may be served."""


@dataclass(frozen=True)
class BackingOff:
    """The last render failed; nobody is granted the lease for a while."""

    remaining_seconds: float
    """Ask again after so long."""
    failures: int
    """Failures in a row."""
    reason: str
    """What the last worker said."""
    previous: StalePage | None
    """The page so far. ``None``: there is none that may be served."""


@dataclass(frozen=True)
class Ended:
    """The lease of this very request id was committed or released before."""


@dataclass(frozen=True)
class Renewed:
    """The lease lasts on."""

    remaining_seconds: float
    """For so long, counted from now; never longer than by the coordinator's clock."""


@dataclass(frozen=True)
class Lost:
    """The lease is another's, has ended, or was held as long as one may be. A commit is likely to be fenced."""


@dataclass(frozen=True)
class Released:
    """The lease is free."""


@dataclass(frozen=True)
class NotHeld:
    """The lease was not this caller's any more; nothing changed."""


@dataclass(frozen=True)
class StoredBody:
    """A body that is in the object store already."""

    digest: bytes
    """SHA-256 of the bytes: 32 bytes."""
    size_bytes: int
    """Their number."""


NewBody = bytes | str | StoredBody
"""A body that is to be committed: bytes, or text, which becomes UTF-8; or one that was stored before, by ``upload`` or by
the worker itself, as the object that the lease names. Whether bytes travel with the commit or ahead of it is decided by
their size."""


@dataclass(frozen=True)
class NewPage:
    """A rendered page. By default of status 200, of no tags, and fresh until invalidated."""

    html: NewBody = field(repr=False)
    """The HTML."""
    sidecar: NewBody | None = field(default=None, repr=False)
    """The hydration sidecar that belongs to it."""
    metadata: PageMetadata = PageMetadata()
    """What the renderer says of it."""
    html_name: str | None = None
    """The name by which ``serve_object`` is to find the HTML within its tenant: at most 512 bytes, ending in ``.html``, new
    for every render and never used again. ``None``: the coordinator names it."""
    sidecar_name: str | None = None
    """Likewise of the sidecar, ending in ``.hydration.json``."""


class BodyKind(Enum):
    """Which body of a page."""

    HTML = "html"
    """The HTML."""
    SIDECAR = "sidecar"
    """The hydration sidecar."""


@dataclass(frozen=True)
class Uploaded:
    """The body is stored."""

    body: StoredBody
    """As the commit is to name it."""
    object_name: str
    """The object."""


@dataclass(frozen=True)
class Committed:
    """The page is current: by this call or an earlier attempt of it."""

    etag: str
    """The entity tag that the page is served with."""
    sidecar_token: SidecarToken | None
    """The token of its sidecar."""
    html_name: str | None
    """The name of its HTML: another one than this commit gave where the body of the page before was kept, which has the same
    bytes, or where an earlier attempt gave another. ``None``: the coordinator named it."""
    sidecar_name: str | None
    """Likewise of the sidecar."""


@dataclass(frozen=True)
class CommittedStale:
    """The page is current, but was invalidated after its render began: never served as fresh."""

    etag: str
    """The entity tag that the page is served with."""
    sidecar_token: SidecarToken | None
    """The token of its sidecar."""
    purged: bool
    """The invalidation was hard: the page is not served at all."""
    html_name: str | None
    """As of :class:`Committed`."""
    sidecar_name: str | None
    """As of :class:`Committed`."""


@dataclass(frozen=True)
class Superseded:
    """A page of a newer generation is current."""

    current_generation: int
    """Its generation."""


@dataclass(frozen=True)
class Fenced:
    """Nothing of this was ever applied, nor will be: another was granted the lease since, or it was released."""

    latest_generation: int
    """The generation of the latest grant. Zero: the entry is not known."""


Commit = Committed | CommittedStale | Superseded | Fenced
"""What became of a commit."""

Upload = Uploaded | Fenced | Superseded
"""What became of an upload."""

Renewal = Renewed | Lost
"""What became of a wish for more time."""

Release = Released | NotHeld
"""What became of a lease that was given back."""


class Health(Enum):
    """What the coordinator says of its health."""

    SERVING = "serving"
    """It takes calls."""
    NOT_SERVING = "not serving"
    """It does not, for it is starting, going down, or cut off from its store."""
    UNKNOWN = "unknown"
    """It does not say."""
