"""Pages: what is current, what a renderer says of it, and how fresh it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from leasehold import _arguments
from leasehold.ids import SidecarToken


class BodyDelivery(Enum):
    """Whether and how the HTML comes along with an answer."""

    NONE = "none"
    """Not at all."""
    INLINE = "inline"
    """In the message; one of over 1 MiB (by default) is left out: ``TooLarge``."""
    URL = "url"
    """As a URL. Only where the object store serves URLs; else refused as ``BODY_URL_UNSUPPORTED``."""


class Consistency(Enum):
    """How current an answer must be."""

    BOUNDED = "bounded"
    """At most one tail interval (default 200 ms) behind the invalidations. Costs the store nothing when warm."""
    STRICT = "strict"
    """Reads the log and the entry first."""


class StaleReason(Enum):
    """Why a page is stale."""

    EXPIRED = "expired"
    """Older than its ``revalidate``."""
    INVALIDATED = "invalidated"
    """Invalidated after its render began."""
    UNVERIFIED = "unverified"
    """The coordinator has not been able to read the invalidation log for longer than the staleness bound."""
    OTHER = "other"
    """One that this version does not know."""


class MissingReason(Enum):
    """Why there is no page."""

    NEVER_RENDERED = "never rendered"
    """Never committed, or not regenerated for the whole retention."""
    PURGED = "purged"
    """Purged by a hard invalidation."""
    BODY_GONE = "body gone"
    """Its stored body is gone; it heals by being rendered again."""
    OTHER = "other"
    """One that this version does not know."""


@dataclass(frozen=True)
class PageMetadata:
    """What a renderer says of its page."""

    status: int = 200
    """The response's status, 200 to 499."""
    content_type: str | None = None
    """1 to 256 bytes. ``None`` in a commit: ``text/html; charset=utf-8``."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further response headers. At most 32, of 8192 bytes in all. Connection headers, ``set-cookie``,
    ``content-length``, ``content-type`` and ``etag`` are refused."""
    etag: str | None = None
    """The entity tag, with its quotes, at most 256 bytes. ``None`` in a commit: made from the digest."""
    revalidate_seconds: float | None = None
    """Fresh for so long, counted from the grant of its lease; at most ten years. ``None``: until invalidated. Zero:
    never."""
    stale_while_revalidate_seconds: float | None = None
    """Servable for so long after that, while it is regenerated; at most ten years."""
    stale_if_error_seconds: float | None = None
    """Servable for so long after ``revalidate_seconds``, when regeneration fails; at most ten years."""
    tags: tuple[str, ...] = ()
    """Labels to invalidate it by. At most 64, of 1 to 256 bytes."""
    path: str | None = None
    """Its URL path. ``None`` in a commit: that of the entry."""
    render_seconds: float | None = None
    """How long the render took."""

    def __post_init__(self) -> None:
        """``InvalidArgument`` for what is of the wrong type."""
        _arguments.of("status", self.status, int)
        for text in ("content_type", "etag", "path"):
            if getattr(self, text) is not None:
                _arguments.text(text, getattr(self, text))
        for span in (
            "revalidate_seconds",
            "stale_while_revalidate_seconds",
            "stale_if_error_seconds",
            "render_seconds",
        ):
            _arguments.optional_seconds(span, getattr(self, span))
        object.__setattr__(self, "headers", _arguments.pairs("headers", self.headers))
        object.__setattr__(self, "tags", _arguments.texts("tags", self.tags))


@dataclass(frozen=True)
class Omitted:
    """The HTML was not asked for."""


@dataclass(frozen=True)
class Inline:
    """The HTML itself. ``repr`` shows its size."""

    data: bytes = field(repr=False)
    """The bytes."""

    def __repr__(self) -> str:
        return f"Inline({len(self.data)} bytes)"


@dataclass(frozen=True)
class Url:
    """A URL to fetch the HTML from, for a few minutes. It grants access: it does not show in ``repr``."""

    url: str = field(repr=False)
    """The URL."""


@dataclass(frozen=True)
class Unchanged:
    """The caller has this generation already."""


@dataclass(frozen=True)
class TooLarge:
    """The HTML does not fit a message: fetch it by ``serve_page``."""


PageBody = Omitted | Inline | Url | Unchanged | TooLarge
"""The HTML of a page, or why it is not there."""


@dataclass(frozen=True)
class Page:
    """A page that is current."""

    generation: int
    """The generation of the lease that it was committed under. Newer pages of an entry have higher ones."""
    metadata: PageMetadata
    """What its renderer said of it."""
    generated_at: datetime | None
    """When its render began, by the coordinator's clock, in UTC: for people."""
    age_seconds: float
    """How long ago that was when the coordinator answered."""
    body: PageBody
    """The HTML, where it was asked for."""
    size_bytes: int
    """The HTML's length. Zero where the digest is empty."""
    digest: bytes
    """SHA-256 of the HTML. Empty where it is not known: of a page that another system wrote into the same table."""
    sidecar_token: SidecarToken | None
    """For the URL of its hydration sidecar. ``None``: it has none."""
    html_name: str | None
    """The name that its worker gave to the HTML. ``None``: the coordinator named it. Of a page whose body did not change, the
    name of the earlier commit stays."""
    sidecar_name: str | None
    """Likewise of the sidecar."""


@dataclass(frozen=True)
class FreshPage:
    """A page that may be served without a second thought."""

    page: Page
    """The page."""
    fresh_for_seconds: float | None
    """How long it stays so, unless invalidated. ``None``: until invalidated."""


@dataclass(frozen=True)
class StalePage:
    """A page that may be served where stale pages are accepted."""

    page: Page
    """The page."""
    reason: StaleReason
    """Why it is stale."""
    stale_while_revalidate_for_seconds: float | None
    """What is left of its stale-while-revalidate window; zero when it is over. ``None``: the page names none."""
    stale_if_error_for_seconds: float | None
    """What is left of its stale-if-error window; zero when it is over. ``None``: the page names none."""


@dataclass(frozen=True)
class MissingPage:
    """There is nothing to serve."""

    reason: MissingReason
    """Why."""


@dataclass(frozen=True)
class Regeneration:
    """A running regeneration."""

    owner: str
    """Who renders, by its own word."""
    generation: int
    """The generation that it may commit."""
    remaining_seconds: float
    """After so long, another may be granted the lease, unless it is renewed."""
