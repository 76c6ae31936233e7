"""What is said to caches beside a page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from leasehold.policy import Policy
from leasehold.response import Rendered, Response, State

NO_STORE = "no-store"

# Said anew for each response, by whoever sends it.
_NOT_KEPT_HEADERS = frozenset(
    {
        "age", "cache-control", "cache-status", "connection", "content-length", "content-type", "date", "etag", "expires",
        "keep-alive", "proxy-authenticate", "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip

# How the names of headers begin that clients leave for one another, and no visitor gets.
_OF_CLIENTS = "leasehold-"

# What a 304 repeats of the response that it stands for.
_NOT_MODIFIED_HEADERS = frozenset(
    {"age", "cache-control", "cache-status", "content-location", "etag", "vary"}
)

# What caches keep by themselves (RFC 9110, section 15.1), as far as it can be a whole page.
_KEPT_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451})

_FRESH = frozenset({State.MISS, State.HIT, State.WAIT_HIT})

_ETAG = re.compile(r'\s*(?:(\*)|((?:W/)?"[^"]*"))\s*(?:,|$)')


@dataclass(frozen=True)
class Served:
    """A page, and how it came about."""

    state: State
    status: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    etag: str | None = None
    ttl_seconds: float | None = None
    """How long it is fresh still; negative: since when it is not. ``None``: until invalidated."""
    forwarded_for: str = "miss"
    """Why it was rendered: there was none, or a stale one."""
    detail: str | None = None
    """Why it is not kept, or is stale without having expired."""
    age_seconds: float = 0.0
    """How old it is; of what was rendered now, zero."""
    is_personal: bool = False
    """Whether it is one visitor's."""
    vary: tuple[str, ...] = ()
    """The headers by which its tenant may have been chosen."""


def kept_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Those that belong to a page whoever it is sent to."""
    lowered = ((name.lower(), value) for name, value in headers)
    return tuple((name, value) for name, value in lowered if name not in _NOT_KEPT_HEADERS)


def may_be_kept(rendered: Rendered, tells_apart: Callable[[str], bool]) -> bool:
    """Whether it is for everybody, by all that it says of itself. ``tells_apart``: whether pages that vary by a header are
    different ones."""
    if not rendered.is_kept or rendered.status not in _KEPT_STATUSES:
        return False
    for name, value in rendered.headers:
        # Not every visitor can decode what is encoded.
        if name.lower() in ("set-cookie", "content-encoding"):
            return False
        directives = {directive.split("=")[0].strip().lower() for directive in value.split(",")}
        if name.lower() == "cache-control" and directives & {"no-store", "private"}:
            return False
        # Rendered for one language, or browser, it would be shown to all others.
        if name.lower() == "vary" and not all(by != "*" and tells_apart(by) for by in directives - {""}):
            return False
    return True


def is_about_spelling(rendered: Rendered, path: str) -> bool:
    """Whether it sends its visitor to the same page in another spelling: the spellings are one page at the coordinator,
    and whoever comes by the other one would be sent in a circle."""

    def segments(spelling: str) -> list[str]:
        return [segment for segment in spelling.split("/") if segment]

    for name, value in rendered.headers:
        if name.lower() == "location":
            try:
                to = unquote(urlsplit(value).path)
            except ValueError:
                return True
            return value.startswith("//") or segments(to) == segments(path)
    return False


def response(served: Served, policy: Policy, state_header: str, if_none_match: str | None) -> Response:
    """As it is to be sent."""
    headers = [
        *(header for header in served.headers if not header[0].startswith(_OF_CLIENTS)),
        ("content-type", served.content_type),
        ("cache-control", cache_control(served, policy)),
        ("cache-status", cache_status(served)),
        (state_header, served.state.value),
    ]
    if served.vary:
        headers.append(("vary", ", ".join(served.vary)))
    if served.etag is not None:
        headers.append(("etag", served.etag))
    if served.age_seconds >= 1:
        headers.append(("age", str(int(served.age_seconds))))
    if served.status == 200 and served.etag is not None and is_match(if_none_match, served.etag):
        sent = {*_NOT_MODIFIED_HEADERS, state_header}
        return Response(304, tuple(header for header in headers if header[0] in sent), b"", served.state)
    return Response(served.status, tuple(headers), served.body, served.state)


def cache_control(served: Served, policy: Policy) -> str:
    if served.state is State.BYPASS:
        return NO_STORE
    if served.is_personal:
        # A shared cache knows its URL only, and would show it to everybody.
        return f"private, {NO_STORE}"
    revalidate = int(policy.revalidate_seconds)
    if policy.window_seconds is not None:
        # What is stale is asked for again.
        revalidate = revalidate if served.state in _FRESH else 0
        return f"s-maxage={revalidate}, stale-while-revalidate={int(policy.window_seconds)}"
    error_window = int(policy.error_window_seconds)
    return f"public, max-age=0, s-maxage=0, stale-if-error={error_window}, must-revalidate"


def cache_status(served: Served) -> str:
    """By RFC 9211."""
    detail = "" if served.detail is None else f"; detail={served.detail}"
    match served.state:
        case State.HIT:
            ttl = "" if served.ttl_seconds is None else f"; ttl={max(int(served.ttl_seconds), 0)}"
            return f"leasehold; hit{ttl}{detail}"
        case State.STALE | State.STALE_METADATA_ERROR:
            # What was invalidated is stale however young it is.
            ttl_seconds = -1 if served.ttl_seconds is None else min(math.floor(served.ttl_seconds), -1)
            return f"leasehold; hit; ttl={ttl_seconds}{detail}"
        case State.MISS:
            return f"leasehold; fwd={served.forwarded_for}; stored{detail}"
        case State.WAIT_HIT:
            return f"leasehold; fwd={served.forwarded_for}; collapsed{detail}"
        case State.BYPASS:
            return f"leasehold; fwd=bypass{detail}"


def is_match(if_none_match: str | None, etag: str) -> bool:
    """By RFC 9110: a list, or ``*``, compared weakly."""
    if if_none_match is None:
        return False
    wanted = etag.removeprefix("W/")
    position = 0
    while (found := _ETAG.match(if_none_match, position)) is not None and found.end() > position:
        star, candidate = found.groups()
        if star or candidate.removeprefix("W/") == wanted:
            return True
        position = found.end()
    return False
