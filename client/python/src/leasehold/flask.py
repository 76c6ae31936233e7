"""For Flask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import ParamSpec

import flask
from flask.ctx import RequestContext
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from leasehold import _arguments
from leasehold.entry import AllCookies
from leasehold.pages import Pages
from leasehold.policy import Policy
from leasehold.response import Rendered, Response
from leasehold.views import Identity, Shown, Tags, Visit, cookies_of
from leasehold.views import page as view_page

P = ParamSpec("P")


# What of a request's environment is the request itself, or the server's. All the rest was made of it on its way.
_OF_THE_REQUEST = frozenset(
    {
        "CONTENT_TYPE", "HTTPS", "PATH_INFO", "REMOTE_ADDR", "REMOTE_HOST", "REMOTE_PORT", "REQUEST_METHOD", "REQUEST_SCHEME",
        "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
    }
)  # fmt: skip
# The path and query as they were sent: with what does not count.
_AS_SENT = ("RAW_URI", "REQUEST_URI")


class Flask:
    """See ``leasehold.views.Framework``."""

    def is_request(self, argument: object) -> bool:
        """Whether it is one of Flask's."""
        return isinstance(argument, flask.Request)

    def visit(self, request: flask.Request) -> Visit:
        """What the request asks for. Its path begins with that of the app's mount. Whom the server says that it is from counts
        as a credential."""
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        cookies = cookies_of(headers)
        if request.remote_user:
            # No header that is sent has an arrow in it.
            headers.setdefault("authorization", []).append(f"REMOTE_USER \u2192 {request.remote_user}")
        return Visit(
            method=request.method,
            path=request.script_root + request.path,
            query=request.args.to_dict(flat=False),
            headers=headers,
            cookies=cookies,
        )

    def for_everybody(self, request: flask.Request, shown: Shown) -> flask.Request:
        """The same request by GET, with no more of it than is to be seen. Unless all counts that may tell who asks, what a
        middleware or a server added to its environment is not."""

        def is_shown(name: str) -> bool:
            if name in ("REMOTE_USER", "AUTH_TYPE"):
                return shown.knows_credentials
            is_of_the_request = name in _OF_THE_REQUEST or name.startswith(("HTTP_", "wsgi."))
            return name not in _AS_SENT and (is_of_the_request or shown.knows_visitor)

        environ = {name: value for name, value in request.environ.items() if is_shown(name)}
        environ |= {"REQUEST_METHOD": "GET", "QUERY_STRING": shown.query_string}
        for name, value in shown.headers.items():
            key = name.upper().replace("-", "_")
            key = key if key == "CONTENT_LENGTH" else f"HTTP_{key}"
            environ.pop(key, None)
            if value is not None:
                environ[key] = value
        return type(request)(environ)

    def rendered(self, response: flask.Response) -> Rendered:
        """What a view answered; one that streams, or sends a file, is read to its end."""
        response.direct_passthrough = False
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
    ``leasehold.views.page``. A page is not kept when it sets a cookie, is marked ``private`` or ``no-store``, is encoded, varies
    by what it is not told apart by, or has a status that caches do not keep by themselves; a status of 500 or more is a
    failed render. What Flask adds after the view, such as the cookie of a session, is not kept.

    Unless the page depends on credentials and all cookies, the view has a session of its own, made of the cookies that it
    sees, and a ``g`` of its own, in which nothing is: what ``before_request`` has put there tells of the visitor. Views of
    apps under different mounts are different pages.

    By default a page is another one for each path, query, visitor's credentials and cookies: narrow that down by
    ``identity``. ``tags`` are labels to invalidate pages by, or what tells them of a request. While a render is paused
    after a failure, and there is no page to serve, answers 503 with ``Retry-After``.
    """

    if not callable(tags):
        tags = _arguments.texts("tags", tags)
    is_whole = not identity.ignore_credentials and isinstance(identity.cookies, AllCookies)

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, flask.Response]:
        @functools.wraps(view)
        def served(*args: P.args, **kwargs: P.kwargs) -> flask.Response:
            asking = flask.globals.request_ctx
            app, asked = asking.app, asking.request
            # What the view writes to it is sent. To look at it makes the page vary by cookies, which this one does.
            session = asking.session if is_whole else None

            # In the background the view runs on another thread, after the request.
            def answered(request: flask.Request) -> flask.Response:
                if request is asked:
                    return flask.make_response(view(*args, **kwargs))
                with ExitStack() as stack:
                    if not is_whole:
                        # What is on `g` was put there for the visitor.
                        stack.enter_context(app.app_context())
                    stack.enter_context(RequestContext(app, request.environ, session=session))
                    return flask.make_response(view(*args, **kwargs))

            kept = view_page(pages, policy, Flask(), identity=identity, tags=tags)(answered)
            return kept(asked)

        return served

    return decorate
