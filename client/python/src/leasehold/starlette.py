"""For Starlette, and what is built on it, such as FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import anyio
from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, StreamingResponse
from starlette.responses import Response as StarletteResponse
from starlette.types import Message

from leasehold import _arguments
from leasehold.pages import AsyncPages
from leasehold.policy import Policy
from leasehold.response import Rendered, Response
from leasehold.views import Identity, Shown, Tags, Visit, async_page, cookies_of

P = ParamSpec("P")
R = TypeVar("R", bound=StarletteResponse)


# What of a scope is the request itself, the server's, or the routing's. All the rest was made of it on its way.
_OF_THE_REQUEST = frozenset(
    {
        "app", "app_root_path", "asgi", "client", "endpoint", "headers", "http_version", "method", "path", "path_params",
        "query_string", "root_path", "route", "route_root_path", "router", "scheme", "server", "type",
    }
)  # fmt: skip
_OF_THE_FRAMEWORK = ("starlette.", "fastapi")


class Starlette:
    """See ``leasehold.views.AsyncFramework``."""

    def is_request(self, argument: object) -> bool:
        """Whether it is one of Starlette's."""
        return isinstance(argument, Request)

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
            cookies=cookies_of(headers),
        )

    def for_everybody(self, request: Request, shown: Shown) -> Request:
        """The same request by GET, with no more of it than is to be seen. Unless all counts that may tell who asks, its user is
        nobody, its session is empty, and what else a middleware added to its scope is not there."""
        scope = {name: value for name, value in request.scope.items() if name != "raw_path"}
        if not shown.knows_visitor:
            scope = {
                name: value
                for name, value in scope.items()
                if name in _OF_THE_REQUEST or name.startswith(_OF_THE_FRAMEWORK)
            }
            nobody = {"user": UnauthenticatedUser(), "auth": AuthCredentials(), "session": {}}
            scope |= {name: value for name, value in nobody.items() if name in request.scope}
        own = [
            (name, value)
            for name, value in scope["headers"]
            if name.decode("latin-1").lower() not in shown.headers
        ]
        new = [(name, value) for name, value in shown.headers.items() if value is not None]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in new]
        query = shown.query_string.encode("ascii")
        scope |= {"method": "GET", "headers": own + encoded, "query_string": query}
        return Request(scope, request.receive)

    async def rendered(self, response: StarletteResponse) -> Rendered:
        """What a view answered; one that streams, or sends a file, is read to its end."""
        if not isinstance(response, StarletteResponse):
            wanted = "answer a Response of Starlette's, such as HTMLResponse or JSONResponse"
            _arguments.refuse("view", wanted, response)
        if isinstance(response, StreamingResponse):
            chunks = [chunk async for chunk in response.body_iterator]
            body = b"".join(
                chunk.encode(response.charset) if isinstance(chunk, str) else bytes(chunk) for chunk in chunks
            )
        elif isinstance(response, FileResponse):
            body = await _sent_by(response)
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


async def _sent_by(response: FileResponse) -> bytes:
    """The whole file. Its response finds out its length and entity tag as it sends it."""
    chunks: list[bytes] = []

    async def send(message: Message) -> None:
        chunks.append(message.get("body", b""))

    async def receive() -> Message:
        # Nobody goes away.
        await anyio.sleep_forever()
        raise AssertionError

    # What is to happen after the response does not happen now.
    task, response.background = response.background, None
    try:
        await response({"type": "http", "method": "GET", "headers": []}, receive, send)
    finally:
        response.background = task
    return b"".join(chunks)


def page(
    pages: AsyncPages, policy: Policy, *, identity: Identity = Identity(), tags: Tags[Request] = ()
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[StarletteResponse]]]:
    """Decorates an ``async def`` view, one of whose arguments is the request, and that answers a response, so that its pages
    are rendered once for the whole fleet. Only GET and HEAD are served from what is kept, and the view sees no more of the
    request than its page depends on: see ``leasehold.views.page``. A page is not kept when it sets a cookie, is marked
    ``private`` or ``no-store``, is encoded, varies by what it is not told apart by, has a background task, or a status that
    caches do not keep by themselves; a status of 500 or more is a failed render.

    Unless the page depends on credentials and all cookies, ``request.user`` is nobody, ``request.session`` and
    ``request.state`` are empty, and nothing else is there that a middleware has added to the scope: ``request.app.state`` is
    the place for what all requests share.

    What FastAPI passes beside the request, it has made of all of it: a dependency sees the visitor's credentials and cookies,
    and a parameter may be one of them. What a view makes of such a value, everybody gets: let it come from what the page
    depends on only. The other way is to leave ``identity`` as it is.

    By default a page is another one for each path, query, visitor's credentials and cookies: narrow that down by
    ``identity``. ``tags`` are labels to invalidate pages by, or what tells them of a request. While a render is paused
    after a failure, and there is no page to serve, answers 503 with ``Retry-After``.
    """
    return async_page(pages, policy, Starlette(), identity=identity, tags=tags)
