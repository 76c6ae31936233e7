"""Decorators that serve a view's pages through the coordinator, for any framework.

``leasehold.starlette`` and ``leasehold.flask`` have them ready for these two. For another one, say by a ``Framework`` how
its requests and responses are read and made.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import urlencode

from leasehold import _arguments, _headers, _visitor
from leasehold._pages import page_of
from leasehold.entry import (
    AllCookies,
    CookieVariance,
    EntryRef,
    NamedValues,
    NoCookies,
    OnlyCookies,
    PageRequest,
)
from leasehold.errors import LeaseholdError, Reason, RegenerationPaused
from leasehold.pages import AsyncPages, Pages
from leasehold.policy import Policy
from leasehold.response import Rendered, Rendering, Response, State

P = ParamSpec("P")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A request, as far as its page may depend on it."""

    method: str
    """In upper case. Only GET and HEAD are served from what is kept; all else goes to the view as it is."""
    path: str
    """The decoded path, absolute."""
    query: NamedValues
    """The decoded query."""
    headers: NamedValues
    """All headers, names in lower case."""
    cookies: Sequence[tuple[str, str]]
    """All cookies, as names and values: ``cookies_of`` its headers."""


def cookies_of(headers: NamedValues) -> tuple[tuple[str, str], ...]:
    """The cookies of these headers, whose names are in lower case: all of them, also those that are repeated."""
    return tuple((name, value) for name, value, _ in _visitor.cookie_pairs(headers.get("cookie", ())))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a view is to see of a request that it renders for all whom its page is the same for."""

    headers: Mapping[str, str | None]
    """Headers in place of the request's own, names in lower case. ``None``: without. The others are as they are."""
    query: tuple[tuple[str, str], ...]
    """The query, decoded, in place of the request's own: what of it makes the page another one."""
    knows_credentials: bool
    """Whether credentials count. If not, neither does what a server has made of them."""
    knows_visitor: bool
    """Whether all counts that may tell who asks: credentials and every cookie. If not, nothing is to be seen of what was made
    of these before, such as a session, a user, or whatever else came with the request."""

    @property
    def query_string(self) -> str:
        """The query as it stands in a URL."""
        return urlencode(self.query)

    @staticmethod
    def of(entry: EntryRef) -> Shown:
        """What whoever renders the page of this entry is to see."""
        request = entry.name
        return Shown(
            headers=_visitor.headers_for_everybody(entry),
            query=_visitor.query_for_everybody(entry),
            knows_credentials=isinstance(request, PageRequest) and not request.ignore_credentials,
            knows_visitor=_visitor.is_whole(entry),
        )


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What makes a page another one. By default everything that may: its path, its whole query, the credentials and all
    cookies of the visitor. Narrow it down for pages that are the same for everybody."""

    tenant: str = ""
    """Whose pages these are. Empty: the tenant ``default``, and requests with a tenant boundary header are refused."""
    deployment: str = ""
    """The release whose pages are kept apart. Empty: none."""
    query: tuple[str, ...] | None = None
    """The names of the query that count. ``None``: all."""
    ignore_credentials: bool = False
    """Whether the page is the same for everybody, whatever credentials a request carries."""
    cookies: CookieVariance = AllCookies()
    """Which cookies count."""

    def __post_init__(self) -> None:
        """``InvalidArgument`` for what is of the wrong type."""
        _arguments.text("tenant", self.tenant)
        _arguments.text("deployment", self.deployment)
        if self.query is not None:
            object.__setattr__(self, "query", _arguments.texts("query", self.query))
        _arguments.of("cookies", self.cookies, (AllCookies, NoCookies, OnlyCookies))

    def entry(self, visit: Visit) -> EntryRef:
        """The entry of the page that is visited."""
        query = {
            name: values for name, values in visit.query.items() if self.query is None or name in self.query
        }
        request = PageRequest(
            route=visit.path,
            query=query,
            headers=visit.headers,
            cookies=visit.cookies,
            ignore_credentials=self.ignore_credentials,
            cookie_variance=self.cookies,
        )
        return EntryRef(request, tenant=self.tenant, deployment=self.deployment, path=visit.path)


class Framework(Protocol[RequestT, ResponseT]):
    """How a framework's requests and responses are read and made, for views that block."""

    def is_request(self, argument: object) -> bool:
        """Whether an argument of a view is its request."""
        ...

    def visit(self, request: RequestT) -> Visit:
        """What the request asks for."""
        ...

    def for_everybody(self, request: RequestT, shown: Shown) -> RequestT:
        """The same request by GET, with no more of it than is to be seen."""
        ...

    def rendered(self, response: ResponseT) -> Rendered:
        """What a view answered."""
        ...

    def response(self, response: Response) -> ResponseT:
        """What is sent; to HEAD, without the body."""
        ...

    def is_answer(self, error: Exception) -> bool:
        """Whether a view that raises this means to answer by it, such as with a 404: it reaches the framework, and is not
        a failed render."""
        ...


class AsyncFramework(Protocol[RequestT, ResponseT]):
    """How a framework's requests and responses are read and made, for views of asyncio. As ``Framework``."""

    def is_request(self, argument: object) -> bool:
        """As ``Framework.is_request``."""
        ...

    def visit(self, request: RequestT) -> Visit:
        """What the request asks for."""
        ...

    def for_everybody(self, request: RequestT, shown: Shown) -> RequestT:
        """As ``Framework.for_everybody``."""
        ...

    async def rendered(self, response: ResponseT) -> Rendered:
        """What a view answered."""
        ...

    def response(self, response: Response) -> ResponseT:
        """As ``Framework.response``."""
        ...

    def is_answer(self, error: Exception) -> bool:
        """As ``Framework.is_answer``."""
        ...


Tags = Sequence[str] | Callable[[RequestT], Sequence[str]]
"""Labels to invalidate pages by, or what tells those of a request's page."""


def page(
    pages: Pages,
    policy: Policy,
    framework: Framework[RequestT, ResponseT],
    *,
    identity: Identity = Identity(),
    tags: Tags[RequestT] = (),
) -> Callable[[Callable[P, ResponseT]], Callable[P, ResponseT]]:
    """Decorates a view, one of whose arguments is its request, so that its pages are rendered once for the whole fleet.

    A view is given the request as it is for everybody: a GET, without conditions and ranges, and without the query,
    credentials and cookies that the page does not depend on, nor what was made of these. Its other arguments are as they
    come: what they tell of the visitor, everybody sees. In the background it is called again for the request that found its
    page stale, after that was answered. A redirection to the same path in another spelling is not kept.
    """
    _check(tags)

    def decorate(view: Callable[P, ResponseT]) -> Callable[P, ResponseT]:
        call: Callable[..., ResponseT] = view

        @functools.wraps(view)
        def served(*args: P.args, **kwargs: P.kwargs) -> ResponseT:
            place = _Place.of(framework.is_request, args, kwargs)
            request: RequestT = place.request
            visit = framework.visit(request)
            if visit.method not in ("GET", "HEAD"):
                return view(*args, **kwargs)
            entry = identity.entry(visit)
            shown_args, shown_kwargs = place.filled(framework.for_everybody(request, Shown.of(entry)))
            answers: list[Exception] = []

            def render(_: Rendering) -> Rendered:
                try:
                    response = call(*shown_args, **shown_kwargs)
                except Exception as error:
                    if framework.is_answer(error):
                        answers.append(error)
                        return _UNKEPT
                    raise
                return _of_page(page_of(framework.rendered(response)), tags, request, visit.path)

            try:
                response = pages.serve(entry, policy, render, if_none_match=_condition(visit))
            except LeaseholdError as error:
                response = _refusal(error, pages.state_header)
            if answers and response.state is State.BYPASS:
                raise answers[0]
            return framework.response(response)

        _sign(served, view)
        return served

    return decorate


def async_page(
    pages: AsyncPages,
    policy: Policy,
    framework: AsyncFramework[RequestT, ResponseT],
    *,
    identity: Identity = Identity(),
    tags: Tags[RequestT] = (),
) -> Callable[[Callable[P, Awaitable[ResponseT]]], Callable[P, Awaitable[ResponseT]]]:
    """As ``page``, for views of asyncio."""
    _check(tags)

    def decorate(view: Callable[P, Awaitable[ResponseT]]) -> Callable[P, Awaitable[ResponseT]]:
        call: Callable[..., Awaitable[ResponseT]] = view

        @functools.wraps(view)
        async def served(*args: P.args, **kwargs: P.kwargs) -> ResponseT:
            place = _Place.of(framework.is_request, args, kwargs)
            request: RequestT = place.request
            visit = framework.visit(request)
            if visit.method not in ("GET", "HEAD"):
                return await _arguments.awaited("view", view(*args, **kwargs))
            entry = identity.entry(visit)
            shown_args, shown_kwargs = place.filled(framework.for_everybody(request, Shown.of(entry)))
            answers: list[Exception] = []

            async def render(_: Rendering) -> Rendered:
                try:
                    response = await _arguments.awaited("view", call(*shown_args, **shown_kwargs))
                except Exception as error:
                    if framework.is_answer(error):
                        answers.append(error)
                        return _UNKEPT
                    raise
                return _of_page(page_of(await framework.rendered(response)), tags, request, visit.path)

            try:
                response = await pages.serve(entry, policy, render, if_none_match=_condition(visit))
            except LeaseholdError as error:
                response = _refusal(error, pages.state_header)
            if answers and response.state is State.BYPASS:
                raise answers[0]
            return framework.response(response)

        _sign(served, view)
        return served

    return decorate


def _sign(served: Callable[..., Any], view: Callable[..., Any]) -> None:
    """With the view's own types: of those that are named by a text, such as ``"Request"``, some versions of FastAPI look for the
    name beside the function that they call, which is here. Where one is not to be found, the text stays."""
    with suppress(Exception):
        served.__signature__ = inspect.signature(view, eval_str=True)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Place:
    """Where among the arguments of a view its request is: FastAPI passes all by name, in any order."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    at: int | str

    @staticmethod
    def of(is_request: Callable[[object], bool], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Place:
        places: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
        for at, argument in places:
            if is_request(argument):
                return _Place(args, kwargs, at)
        raise TypeError("a view whose pages are kept needs its request among its arguments")

    @property
    def request(self) -> Any:
        return self.args[self.at] if isinstance(self.at, int) else self.kwargs[self.at]

    def filled(self, request: object) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """All arguments, with this request in place of the one that is there."""
        if isinstance(self.at, int):
            return (*self.args[: self.at], request, *self.args[self.at + 1 :]), self.kwargs
        return self.args, {**self.kwargs, self.at: request}


def _check(tags: Tags[Any]) -> None:
    """``InvalidArgument`` before the first visitor comes."""
    if not callable(tags):
        _arguments.texts("tags", tags)


_UNKEPT = Rendered(body=b"", is_kept=False)


def _condition(visit: Visit) -> str | None:
    values = visit.headers.get("if-none-match")
    return ", ".join(values) if values else None


def _of_page(rendered: Rendered, tags: Tags[RequestT], request: RequestT, path: str) -> Rendered:
    labels = tags(request) if callable(tags) else tags
    return Rendered(
        body=rendered.body,
        status=rendered.status,
        content_type=rendered.content_type,
        headers=rendered.headers,
        etag=rendered.etag,
        tags=(*rendered.tags, *_arguments.texts("tags", labels)),
        sidecar=rendered.sidecar,
        is_kept=rendered.is_kept and not _headers.is_about_spelling(rendered, path),
    )


def _refusal(error: LeaseholdError, state_header: str) -> Response:
    """What is left to say where there is no page. Other errors, such as a view's own, are the framework's to answer."""
    plain = [
        ("content-type", "text/plain; charset=utf-8"),
        ("cache-control", "no-store"),
        (state_header, "bypass"),
    ]
    if isinstance(error, RegenerationPaused):
        retry_after = ("retry-after", str(max(math.ceil(error.retry_after_seconds), 1)))
        status = ("cache-status", "leasehold; fwd=bypass; detail=backing-off")
        headers = (*plain, status, retry_after)
        return Response(503, headers, b"This page cannot be rendered at the moment.\n", State.BYPASS)
    if error.reason is Reason.TENANT_BOUNDARY:
        status = ("cache-status", "leasehold; fwd=bypass; detail=tenant-boundary")
        return Response(400, (*plain, status), b"This site serves no tenants.\n", State.BYPASS)
    raise error
