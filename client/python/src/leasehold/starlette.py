"""For Starlette, and what is built on it, such as FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.responses import StreamingResponse

from leasehold.pages import AsyncPages
from leasehold.policy import Policy
from leasehold.response import Rendered, Response
from leasehold.views import Identity, Tags, Visit, async_page

P = ParamSpec("P")
R = TypeVar("R", bound=StarletteResponse)


class Starlette:
    """See ``leasehold.views.AsyncFramework``."""

    def visit(self, request: Request) -> Visit:
        """What the request asks for."""
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        query: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            query.setdefault(name, []).append(value)
        return Visit(
            method=request.method,
            path=request.scope["path"],
            query=query,
            headers=headers,
            cookies=tuple(request.cookies.items()),
        )

    def with_headers(self, request: Request, headers: Mapping[str, str | None]) -> Request:
        """The same request by GET, with these headers in place of its own."""
        own = [
            (name, value) for name, value in request.scope["headers"] if name.decode("latin-1") not in headers
        ]
        new = [(name, value) for name, value in headers.items() if value is not None]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in new]
        return Request({**request.scope, "method": "GET", "headers": own + encoded}, request.receive)

    async def rendered(self, response: StarletteResponse) -> Rendered:
        """What a view answered; one that streams is read to its end."""
        if isinstance(response, StreamingResponse):
            chunks = [chunk async for chunk in response.body_iterator]
            body = b"".join(
                chunk.encode(response.charset) if isinstance(chunk, str) else bytes(chunk) for chunk in chunks
            )
        else:
            body = bytes(response.body)
        return Rendered(
            body=body,
            status=response.status_code,
            content_type=response.headers.get("content-type", "application/octet-stream"),
            headers=tuple(response.headers.items()),
            etag=response.headers.get("etag"),
            # What is to happen after the response belongs to this one.
            is_kept=response.background is None,
        )

    def response(self, response: Response) -> StarletteResponse:
        """What is sent."""
        sent = StarletteResponse(response.body, response.status)
        for name, value in response.headers:
            sent.headers.append(name, value)
        return sent

    def is_answer(self, error: Exception) -> bool:
        """An ``HTTPException`` below 500."""
        return isinstance(error, HTTPException) and error.status_code < 500


def page(
    pages: AsyncPages, policy: Policy, *, identity: Identity = Identity(), tags: Tags[Request] = ()
) -> Callable[
    [Callable[Concatenate[Request, P], Awaitable[StarletteResponse]]],
    Callable[Concatenate[Request, P], Awaitable[StarletteResponse]],
]:
    """Decorates an ``async def`` view, whose first argument is the request, so that its pages are rendered once for the
    whole fleet. Only GET and HEAD are served from what is kept, and the view sees no more of the request than its page
    depends on: see ``leasehold.views.page``. A page is not kept when it sets a cookie, is marked ``private`` or ``no-store``,
    is encoded, has a background task, or a status that caches do not keep by themselves; a status of 500 or more is a failed
    render.

    By default a page is another one for each path, query, visitor's credentials and cookies: narrow that down by
    ``identity``. ``tags`` are labels to invalidate pages by, or what tells them of a request. While a render is paused
    after a failure, and there is no page to serve, answers 503 with ``Retry-After``.
    """
    return async_page(pages, policy, Starlette(), identity=identity, tags=tags)
