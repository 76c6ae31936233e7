"""What a view renders, and what is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from leasehold import _arguments
from leasehold.ids import SidecarToken


class State(Enum):
    """How a page came about: the value of the state header."""

    MISS = "miss"
    """Rendered by this request."""
    HIT = "hit"
    """It was there, and fresh."""
    WAIT_HIT = "wait-hit"
    """Rendered by another while this request waited."""
    STALE = "stale"
    """The previous page."""
    STALE_METADATA_ERROR = "stale-metadata-error"
    """The last page that this process knows of: the coordinator could not be asked."""
    BYPASS = "bypass"
    """Rendered by this request, and not kept."""


@dataclass(frozen=True)
class Rendering:
    """What a render is told."""

    generation: int | None = None
    """The generation that it renders. ``None``: its page is not kept."""
    sidecar_token: SidecarToken | None = None
    """For the URL of the hydration sidecar, to be put into the HTML. ``None``: there is nowhere to keep one; put its data
    into the page."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A page as a view rendered it."""

    body: bytes | str = field(repr=False)
    """The body; text becomes UTF-8."""
    status: int = 200
    """500 or more is a failed render. Default: 200."""
    content_type: str = "text/html; charset=utf-8"
    """Its content type, 1 to 256 bytes."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers, at most 32, of 8192 bytes in all. Such as belong to one connection or one visitor keep a page from
    being kept: ``set-cookie``, and a ``cache-control`` of ``no-store`` or ``private``; and so does a ``vary`` by anything but
    ``accept-encoding`` and what the entry is told apart by. Of an entry with a ready key, whoever made it knows that."""
    etag: str | None = None
    """The entity tag, with its quotes. ``None``: made from the body."""
    tags: tuple[str, ...] = ()
    """Labels to invalidate it by. At most 64, of 1 to 256 bytes."""
    sidecar: bytes | str | None = field(default=None, repr=False)
    """The hydration sidecar that belongs to it."""
    is_kept: bool = True
    """Whether it may be served to others."""

    def __post_init__(self) -> None:
        """``InvalidArgument`` for what is of the wrong type."""
        _arguments.of("body", self.body, (bytes, str))
        _arguments.of("status", self.status, int)
        _arguments.text("content_type", self.content_type)
        object.__setattr__(self, "headers", _arguments.pairs("headers", self.headers))
        if self.etag is not None:
            _arguments.text("etag", self.etag)
        object.__setattr__(self, "tags", _arguments.texts("tags", self.tags))
        if self.sidecar is not None:
            _arguments.of("sidecar", self.sidecar, (bytes, str))

    @property
    def body_bytes(self) -> bytes:
        """The body as it is sent."""
        return self.body.encode() if isinstance(self.body, str) else self.body


@dataclass(frozen=True)
class Response:
    """A page as it is to be sent."""

    status: int
    """The status. 304, without a body, where the request has this page already."""
    headers: tuple[tuple[str, str], ...]
    """All headers but the length, names in lower case."""
    body: bytes = field(repr=False)
    """The body."""
    state: State
    """How it came about."""

    def header(self, name: str) -> str | None:
        """The first value of a header, by its name in lower case."""
        return next((value for known, value in self.headers if known == name), None)
