"""For Flask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import flask
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
    """Decorates a view, below ``@app.route``, so that its pages are rendered once for the whole fleet. Only GET is served
    from what is kept. A page is not kept when it sets a cookie, or is marked ``private`` or ``no-store``; a status of 500
    or more is a failed render. What Flask adds after the view, such as the cookie of a session, is not kept.

    By default a page is another one for each path, query, visitor's credentials and cookies: narrow that down by
    ``identity``. ``tags`` are labels to invalidate pages by, or what tells them of a request. While a render is paused
    after a failure, and there is no page to serve, answers 503 with ``Retry-After``.
    """

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, flask.Response]:
        @functools.wraps(view)
        def served(*args: P.args, **kwargs: P.kwargs) -> flask.Response:
            # In the background the view runs on another thread, after the request.
            @flask.copy_current_request_context
            def answered() -> flask.Response:
                return flask.make_response(view(*args, **kwargs))

            kept = view_page(pages, policy, Flask(), identity=identity, tags=tags)(lambda _: answered())
            return kept(flask.request)

        return served

    return decorate
