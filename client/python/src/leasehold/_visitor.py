"""What of a request makes its page another one, and what of it whoever renders for everybody gets to see."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from leasehold import _wire
from leasehold.entry import AllCookies, EntryRef, NamedValues, NoCookies, OnlyCookies, PageRequest

# Of a request, what tells nothing of whom it is from. All the rest may keep last known copies apart.
_OF_NO_CONCERN = frozenset(
    {"accept", "accept-encoding", "cache-control", "cookie", "if-none-match", "pragma", "user-agent"}
)
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "x-amz-security-token"})
# What marks a tenant's boundary, whatever else a coordinator is told to take for that.
_TENANT_HEADERS = frozenset({"x-tenant-id", "x-facetheory-tenant"})
# What a visitor has already, wants a part of, or can decode.
_OF_ONE_VISITOR = (
    "accept-encoding", "content-length", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "range", "transfer-encoding",
)  # fmt: skip


def local_key(entry: EntryRef) -> str:
    """Names its copy in this process. Too many names lose a copy, too few would mix visitors up: what is not known to
    be of no concern counts."""
    name = entry.name
    if isinstance(name, PageRequest):
        name = replace(
            name,
            params=dict(sorted(name.params.items())),
            query=dict(sorted(name.query.items())),
            headers=_headers_of_concern(name, is_declared=bool(entry.tenant.strip())),
            cookies=sorted(cookie for cookie in name.cookies if _is_counted_cookie(name, cookie[0])),
        )
    material = _wire.to_entry(replace(entry, name=name, path="")).SerializeToString(deterministic=True)
    return hashlib.sha256(material).hexdigest()


def is_personal(entry: EntryRef) -> bool:
    """Whether a page is one visitor's: no shared cache may keep it, for that knows its URL only."""
    request = entry.name
    if isinstance(request, str):
        return False
    has_credentials = not request.ignore_credentials and _has_any(request, _CREDENTIALS)
    return has_credentials or any(_is_counted_cookie(request, name) for name, _ in request.cookies)


def crosses_tenants(entry: EntryRef) -> bool:
    """Whether a request was meant for a tenant that nobody has declared."""
    request = entry.name
    return (
        isinstance(request, PageRequest) and not entry.tenant.strip() and _has_any(request, _TENANT_HEADERS)
    )


def for_everybody(entry: EntryRef) -> Mapping[str, str | None]:
    """What of the headers of a request is another thing to whoever renders for all whom its page is the same for. ``None``:
    it is not there."""
    request = entry.name
    if isinstance(request, str):
        return {}
    hidden = dict.fromkeys(_OF_ONE_VISITOR)
    if request.ignore_credentials:
        hidden |= dict.fromkeys(_CREDENTIALS)
    cookies = "; ".join(
        pair.strip()
        for line in _values(request, "cookie")
        for pair in line.split(";")
        if pair.strip() and _is_counted_cookie(request, pair.partition("=")[0])
    )
    return {**hidden, "cookie": cookies or None}


def _headers_of_concern(request: PageRequest, *, is_declared: bool) -> NamedValues:
    concern: dict[str, list[str]] = {}
    for name, values in sorted((_plain(name), values) for name, values in request.headers.items()):
        if name in _CREDENTIALS:
            is_of_concern = not request.ignore_credentials
        else:
            is_of_concern = not is_declared and name not in _OF_NO_CONCERN
        if is_of_concern:
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
