"""How an entry is named: by a ready key, or by the request that it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from leasehold import _arguments

NamedValues = Mapping[str, Sequence[str]]
"""Names with their values, in their order."""


@dataclass(frozen=True)
class AllCookies:
    """Every cookie makes a page another one."""


@dataclass(frozen=True)
class NoCookies:
    """No cookie makes a page another one."""


@dataclass(frozen=True)
class OnlyCookies:
    """The cookies of these names make a page another one."""

    names: tuple[str, ...]
    """1 to 256."""

    def __post_init__(self) -> None:
        """``InvalidArgument`` for what is of the wrong type."""
        object.__setattr__(self, "names", _arguments.texts("names", self.names))


CookieVariance = AllCookies | NoCookies | OnlyCookies
"""Which cookies make a page another one."""


@dataclass(frozen=True)
class PageRequest:
    """A request for a page, as far as its cache key depends on it. The coordinator derives the key, the same for every
    language.

    Whoever passes on all headers and cookies of a request gets a key that keeps its variants apart, and the check that
    no tenant boundary header goes unnoticed. ``repr`` shows the route only.
    """

    route: str
    """The route pattern that matched, such as ``/blog/{slug}``; at most 2048 bytes."""
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Route parameters; at most 64."""
    query: NamedValues = field(default_factory=dict, repr=False)
    """The decoded query; at most 256 names."""
    headers: NamedValues = field(default_factory=dict, repr=False)
    """Headers, names in any case; at most 256. Only credentials and tenant boundary headers are looked at."""
    cookies: Sequence[tuple[str, str]] = field(default=(), repr=False)
    """Cookies, as names and values; at most 256."""
    ignore_credentials: bool = False
    """Whether the page is the same for everybody, whatever credentials a request carries. Default: it is not."""
    cookie_variance: CookieVariance = AllCookies()
    """Which cookies make a page another one. Default: all."""

    def __post_init__(self) -> None:
        """``InvalidArgument`` for what is of the wrong type."""
        _arguments.text("route", self.route)
        _arguments.named_texts("params", self.params)
        _arguments.named_values("query", self.query)
        _arguments.named_values("headers", self.headers)
        object.__setattr__(self, "cookies", _arguments.pairs("cookies", self.cookies))
        _arguments.of("cookie_variance", self.cookie_variance, (AllCookies, NoCookies, OnlyCookies))


@dataclass(frozen=True)
class EntryRef:
    """Names an entry.

    ``repr`` shows the tenant, the release, the path, and the key or the route; never headers, cookies or the query.
    """

    name: str | PageRequest
    """A ready key, 1 to 4096 bytes; or the request that the entry answers."""
    tenant: str = ""
    """Whose, 1 to 128 bytes. Empty: the tenant ``default``; but declaring it also settles what a tenant boundary header
    on the request would leave open."""
    deployment: str = ""
    """The release whose pages are kept apart, 1 to 128 bytes. Empty: none."""
    path: str = ""
    """The page's URL path, absolute, at most 2048 bytes: what invalidations of a path prefix go by. Empty: the route of
    the request with its parameters filled in, where that is certain."""

    def __post_init__(self) -> None:
        """``InvalidArgument`` for what is of the wrong type."""
        _arguments.of("name", self.name, (str, PageRequest))
        _arguments.text("tenant", self.tenant)
        _arguments.text("deployment", self.deployment)
        _arguments.text("path", self.path)
