"""What of a request makes its page another one, and what of it whoever renders for everybody gets to see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from leasehold import _wire
from leasehold.entry import AllCookies, EntryRef, NamedValues, NoCookies, OnlyCookies, PageRequest

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "x-amz-security-token"})
# What marks a tenant's boundary, whatever else a coordinator is told to take for that.
_TENANT_HEADERS = frozenset({"x-tenant-id", "x-facetheory-tenant"})
# What a visitor has already, wants a part of, or can decode.
_OF_ONE_VISITOR = (
    "accept-encoding", "content-length", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "range", "transfer-encoding",
)  # fmt: skip


def local_key(entry: EntryRef) -> str:
    """Names its copy in this process. Too many names lose a copy, such as one for each language that a browser asks for; too
    few would mix visitors up: what the coordinator derives a key from counts."""
    name = entry.name
    if isinstance(name, PageRequest):
        name = replace(
            name,
            params=dict(sorted(name.params.items())),
            query=dict(sorted(name.query.items())),
            headers=_headers_of_concern(name),
            cookies=sorted(cookie for cookie in name.cookies if _is_counted_cookie(name, cookie[0])),
        )
    material = _wire.to_entry(replace(entry, name=name, path="")).SerializeToString(deterministic=True)
    return hashlib.sha256(material).hexdigest()


def label(entry: EntryRef) -> str:
    """Names it in a log: of a request, by its route alone, for all else of it may be a visitor's secret."""
    request = entry.name
    return f"key={request!r}" if isinstance(request, str) else f"route={request.route!r}"


def is_personal(entry: EntryRef) -> bool:
    """Whether a page is one visitor's: no shared cache may keep it, for that knows its URL only."""
    request = entry.name
    if isinstance(request, str):
        return False
    has_credentials = not request.ignore_credentials and _has_any(request, _CREDENTIALS)
    return has_credentials or any(_is_counted_cookie(request, name) for name, _ in request.cookies)


def chosen_tenant_headers(entry: EntryRef) -> tuple[str, ...]:
    """The headers of a request that its tenant may have been chosen by: no shared cache knows of them by itself."""
    request = entry.name
    if isinstance(request, str):
        return ()
    return tuple(name for name in sorted(_TENANT_HEADERS) if _has_any(request, frozenset({name})))


def crosses_tenants(entry: EntryRef) -> bool:
    """Whether a request was meant for a tenant that nobody has declared."""
    request = entry.name
    return (
        isinstance(request, PageRequest) and not entry.tenant.strip() and _has_any(request, _TENANT_HEADERS)
    )


def is_whole(entry: EntryRef) -> bool:
    """Whether all that may tell who asks is in its key: credentials, and every cookie."""
    request = entry.name
    return (
        isinstance(request, PageRequest)
        and not request.ignore_credentials
        and isinstance(request.cookie_variance, AllCookies)
    )


def headers_for_everybody(entry: EntryRef) -> Mapping[str, str | None]:
    """What of the headers of a request is another thing to whoever renders for all whom its page is the same for. ``None``:
    it is not there."""
    request = entry.name
    if isinstance(request, str):
        return {}
    hidden = dict.fromkeys(_OF_ONE_VISITOR)
    if request.ignore_credentials:
        hidden |= dict.fromkeys(_CREDENTIALS)
    pairs = cookie_pairs(_values(request, "cookie"))
    cookies = "; ".join(pair for name, _, pair in pairs if _is_counted_cookie(request, name))
    return {**hidden, "cookie": cookies or None}


def query_for_everybody(entry: EntryRef) -> tuple[tuple[str, str], ...]:
    """The part of the query that counts, its names in order: whoever asks may give them in any."""
    request = entry.name
    if isinstance(request, str):
        return ()
    return tuple((name, value) for name in sorted(request.query) for value in request.query[name])


def cookie_pairs(lines: Iterable[str]) -> list[tuple[str, str, str]]:
    """Each cookie of these headers: its name, its value, and both as they are sent. Of repeated ones, some frameworks take the
    first and some the last: all of them are there. Those without a name are not: no key has them, and still some frameworks
    would find something in them."""
    found = []
    for pair in (part.strip() for line in lines for part in line.split(";")):
        name, _, value = pair.partition("=")
        if name.strip():
            found.append((name.strip(), value.strip(), pair))
    return found


def tells_apart(entry: EntryRef, header: str) -> bool:
    """Whether pages that vary by this header are different ones, and never told as one another. Of a ready key, whoever made
    it knows."""
    request = entry.name
    if isinstance(request, str):
        return True
    name = _plain(header)
    if name == "cookie":
        return not isinstance(request.cookie_variance, NoCookies)
    if name in _TENANT_HEADERS:
        return bool(entry.tenant.strip())
    return name == "accept-encoding" or (name in _CREDENTIALS and not request.ignore_credentials)


def _headers_of_concern(request: PageRequest) -> NamedValues:
    """Of those that mark a tenant, none is: where a tenant is declared they do not count, and else such requests are refused."""
    concern: dict[str, list[str]] = {}
    for name, values in sorted((_plain(name), values) for name, values in request.headers.items()):
        if name in _CREDENTIALS and not request.ignore_credentials:
            concern[name] = [*concern.get(name, []), *values]
    return concern


def _is_counted_cookie(request: PageRequest, name: str) -> bool:
    match request.cookie_variance:
        case AllCookies():
            return True
        case NoCookies():
            return False
        case OnlyCookies(names=names):
            return name.strip() in {counted.strip() for counted in names}


def _has_any(request: PageRequest, names: frozenset[str]) -> bool:
    return any(value.strip() for name in names for value in _values(request, name))


def _values(request: PageRequest, name: str) -> list[str]:
    return [value for known, values in request.headers.items() if _plain(known) == name for value in values]


def _plain(name: str) -> str:
    """As the coordinator compares names."""
    return name.strip().lower()
