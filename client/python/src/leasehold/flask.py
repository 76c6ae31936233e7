"""For Flask."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec

import flask
from flask.ctx import RequestContext
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from leasehold.pages import Pages
from leasehold.policy import Policy
from leasehold.response import Rendered, Response
from leasehold.views import Identity, Tags, Visit
from leasehold.views import page as view_page

P = ParamSpec("P")


class Flask:
    """See ``leasehold.views.Framework``."""

    def visit(self, request: flask.Request) -> Visit:
        """What the request asks for."""
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        return Visit(
            method=request.method,
            path=request.path,
            query=request.args.to_dict(flat=False),
            headers=headers,
            cookies=tuple(request.cookies.items(multi=True)),
        )

    def with_headers(self, request: flask.Request, headers: Mapping[str, str | None]) -> flask.Request:
        """The same request by GET, with these headers in place of its own."""
        environ = {**request.environ, "REQUEST_METHOD": "GET"}
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            key = key if key == "CONTENT_LENGTH" else f"HTTP_{key}"
            environ.pop(key, None)
            if value is not None:
                environ[key] = value
        return type(request)(environ)

    def rendered(self, response: flask.Response) -> Rendered:
        """What a view answered; one that streams is read to its end."""
        return Rendered(
            body=response.get_data(),
            status=response.status_code,
            content_type=response.content_type or "application/octet-stream",
            headers=tuple(response.headers.items()),
            etag=response.headers.get("etag"),
        )

    def response(self, response: Response) -> flask.Response:
        """What is sent."""
        sent = flask.Response(response.body, response.status)
        sent.headers.remove("content-type")
        for name, value in response.headers:
            sent.headers.add(name, value)
        return sent

    def is_answer(self, error: Exception) -> bool:
        """An ``HTTPException`` below 500, such as ``abort(404)`` raises."""
        return isinstance(error, HTTPException) and (error.code or 500) < 500


def page(
    pages: Pages, policy: Policy, *, identity: Identity = Identity(), tags: Tags[flask.Request] = ()
) -> Callable[[Callable[P, ResponseReturnValue]], Callable[P, flask.Response]]:
    """Decorates a view, below ``@app.route``, so that its pages are rendered once for the whole fleet. Only GET and HEAD
    are served from what is kept, and the view sees no more of the request than its page depends on: see
    ``leasehold.views.page``. A page is not kept when it sets a cookie, is marked ``private`` or ``no-store``, is encoded, or
    has a status that caches do not keep by themselves; a status of 500 or more is a failed render. What Flask adds after the view, such as the cookie of a session, is not kept.

    By default a page is another one for each path, query, visitor's credentials and cookies: narrow that down by
    ``identity``. ``tags`` are labels to invalidate pages by, or what tells them of a request. While a render is paused
    after a failure, and there is no page to serve, answers 503 with ``Retry-After``.
    """

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, flask.Response]:
        @functools.wraps(view)
        def served(*args: P.args, **kwargs: P.kwargs) -> flask.Response:
            context = flask.globals.request_ctx
            app, asked, session = context.app, context.request, context.session

            # In the background the view runs on another thread, after the request.
            def answered(request: flask.Request) -> flask.Response:
                if request is asked:
                    return flask.make_response(view(*args, **kwargs))
                with RequestContext(app, request.environ, session=session):
                    return flask.make_response(view(*args, **kwargs))

            kept = view_page(pages, policy, Flask(), identity=identity, tags=tags)(answered)
            return kept(asked)

        return served

    return decorate
