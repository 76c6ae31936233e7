"""Views of Starlette and of Flask, behind their decorators."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import flask
import pytest
from fastapi import Depends, FastAPI, Header
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from support.server import Server

import leasehold.flask
import leasehold.starlette
from leasehold import (
    AsyncCoordinator,
    AsyncPages,
    Coordinator,
    Identity,
    NoCookies,
    Pages,
    Policy,
    Rendered,
    Response,
    Tag,
)
from leasehold.views import Shown, Visit, page

POLICY = Policy.blocking(60)
PUBLIC = Identity(ignore_credentials=True, cookies=NoCookies(), query=("page",))
TOLD = {"accept", "accept-encoding", "authorization", "cookie", "if-none-match", "range"}


@dataclass
class Answer:
    """What a site answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def state(self) -> str | None:
        return self.headers.get("x-isr-state")


class Site(Protocol):
    """The same site, on one framework or the other."""

    renders: list[str]

    def get(self, path: str, **headers: str) -> Answer: ...
    def head(self, path: str, **headers: str) -> Answer: ...
    def post(self, path: str) -> Answer: ...
    def invalidate(self, tag: str) -> None: ...


class StarletteSite:
    """By asyncio."""

    def __init__(self, address: str, prefix: str) -> None:
        self.renders: list[str] = []
        self._prefix = prefix
        self._coordinator = AsyncCoordinator(address)
        self._pages = AsyncPages(self._coordinator)
        kept = leasehold.starlette.page

        @kept(
            self._pages, POLICY, identity=PUBLIC, tags=lambda request: [prefix + request.path_params["slug"]]
        )
        async def post(request: Request) -> StarletteResponse:
            self.renders.append(request.url.path)
            slug = request.path_params["slug"]
            match slug:
                case "missing":
                    raise HTTPException(404, "no such post")
                case "broken":
                    raise RuntimeError("the database is down")
                case "mine":
                    answer = PlainTextResponse("mine")
                    answer.set_cookie("session", "1")
                    return answer
                case "streamed":
                    return StreamingResponse(iter(["str", "eam"]), media_type="text/plain")
                case "asked":
                    asked = {name: value for name, value in request.headers.items() if name in TOLD}
                    return PlainTextResponse(f"{request.method} {asked} {request.cookies}")
                case "spelling" | "elsewhere":
                    to = f"/{prefix}/spelling/" if slug == "spelling" else "/other"
                    return PlainTextResponse("", 308, {"location": to})
                case "task":
                    return PlainTextResponse("task", background=BackgroundTask(lambda: None))
                case "file":
                    return FileResponse(__file__, media_type="text/plain")
                case "translated" | "encodable":
                    vary = "accept-language" if slug == "translated" else "Accept-Encoding"
                    return PlainTextResponse(slug, headers={"vary": vary})
                case "query":
                    return PlainTextResponse(f"{request.url.query} {dict(request.query_params)}")
            page_number = request.query_params.get("page", "1")
            return HTMLResponse(f"<h1>{slug} {page_number}</h1>", headers={"x-mine": "yes"})

        app = Starlette(routes=[Route(f"/{prefix}/{{slug}}", post, methods=["GET", "POST"])])
        self._client = TestClient(app, raise_server_exceptions=False)
        self._client.__enter__()

    def get(self, path: str, **headers: str) -> Answer:
        response = self._client.get(f"/{self._prefix}{path}", headers=_named(headers), follow_redirects=False)
        return Answer(response.status_code, response.headers, response.text)

    def head(self, path: str, **headers: str) -> Answer:
        response = self._client.head(f"/{self._prefix}{path}", headers=_named(headers))
        return Answer(response.status_code, response.headers, response.text)

    def post(self, path: str) -> Answer:
        response = self._client.post(f"/{self._prefix}{path}")
        return Answer(response.status_code, response.headers, response.text)

    def invalidate(self, tag: str) -> None:
        async def invalidate() -> None:
            await self._pages.invalidate(Tag(self._prefix + tag))

        assert self._client.portal is not None
        self._client.portal.call(invalidate)

    def close(self) -> None:
        assert self._client.portal is not None
        self._client.portal.call(self._coordinator.close)
        self._client.__exit__(None, None, None)


class FlaskSite:
    """By threads."""

    def __init__(self, address: str, prefix: str) -> None:
        self.renders: list[str] = []
        self._prefix = prefix
        self._coordinator = Coordinator(address)
        self._pages = Pages(self._coordinator)
        app = flask.Flask(__name__)

        @app.route(f"/{prefix}/<slug>", methods=["GET", "POST"])
        @leasehold.flask.page(
            self._pages,
            POLICY,
            identity=PUBLIC,
            tags=lambda request: [prefix + (request.view_args or {})["slug"]],
        )
        def post(slug: str) -> Any:
            self.renders.append(flask.request.path)
            match slug:
                case "missing":
                    flask.abort(404)
                case "broken":
                    raise RuntimeError("the database is down")
                case "mine":
                    answer = flask.make_response("mine")
                    answer.set_cookie("session", "1")
                    return answer
                case "streamed":
                    return flask.Response(iter(["str", "eam"]), mimetype="text/plain")
                case "asked":
                    headers = {name.lower(): value for name, value in flask.request.headers.items()}
                    asked = {name: value for name, value in headers.items() if name in TOLD}
                    return f"{flask.request.method} {asked} {dict(flask.request.cookies)}"
                case "spelling" | "elsewhere":
                    to = f"/{prefix}/spelling/" if slug == "spelling" else "/other"
                    return "", 308, {"location": to}
                case "task":
                    return flask.Response("task", headers={"cache-control": "private"})
                case "file":
                    return flask.send_file(__file__, mimetype="text/plain")
                case "translated" | "encodable":
                    return slug, {"vary": "accept-language" if slug == "translated" else "Accept-Encoding"}
                case "query":
                    return f"{flask.request.query_string.decode()} {flask.request.args.to_dict()}"
            page_number = flask.request.args.get("page", "1")
            return f"<h1>{slug} {page_number}</h1>", {"x-mine": "yes"}

        self._client = app.test_client()

    def get(self, path: str, **headers: str) -> Answer:
        response = self._client.get(f"/{self._prefix}{path}", headers=_named(headers))
        return Answer(
            response.status_code, {name.lower(): value for name, value in response.headers}, response.text
        )

    def head(self, path: str, **headers: str) -> Answer:
        response = self._client.head(f"/{self._prefix}{path}", headers=_named(headers))
        return Answer(
            response.status_code, {name.lower(): value for name, value in response.headers}, response.text
        )

    def post(self, path: str) -> Answer:
        response = self._client.post(f"/{self._prefix}{path}")
        return Answer(
            response.status_code, {name.lower(): value for name, value in response.headers}, response.text
        )

    def invalidate(self, tag: str) -> None:
        self._pages.invalidate(Tag(self._prefix + tag))

    def close(self) -> None:
        self._coordinator.close()


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture(params=[StarletteSite, FlaskSite])
def site(request: pytest.FixtureRequest, server: Server, name: str) -> Iterator[Site]:
    site = request.param(server.address, name)
    yield site
    site.close()


def it_renders_once_and_serves_what_is_kept(site: Site) -> None:
    first, second = site.get("/hello"), site.get("/hello")
    assert (first.state, second.state) == ("miss", "hit")
    assert first.text == second.text == "<h1>hello 1</h1>"
    assert first.headers["content-type"] == second.headers["content-type"] == "text/html; charset=utf-8"
    assert second.headers["x-mine"] == first.headers["x-mine"]
    assert second.headers["cache-control"].startswith("public, max-age=0")
    assert second.headers["cache-status"].startswith("leasehold; hit; ttl=")
    assert int(second.headers["content-length"]) == len("<h1>hello 1</h1>")
    assert len(site.renders) == 1


def it_answers_304_to_a_browser_that_has_the_page(site: Site) -> None:
    etag = site.get("/hello").headers["etag"]
    again = site.get("/hello", if_none_match=f'"other", {etag}')
    assert (again.status, again.text, again.state) == (304, "", "hit")


def it_renders_anew_after_an_invalidation_by_tag(site: Site) -> None:
    site.get("/hello")
    site.get("/other")
    site.invalidate("hello")
    assert site.get("/hello").state == "miss"
    assert site.get("/other").state == "hit"


def it_counts_the_query_and_the_visitor_as_told(site: Site) -> None:
    assert site.get("/hello?page=2&utm_source=x").text == "<h1>hello 2</h1>"
    again = site.get("/hello?page=2&utm_source=y", authorization="Bearer a", cookie="session=1")
    assert again.state == "hit"
    assert site.get("/hello?page=3").state == "miss"


def it_shows_who_renders_for_everybody_neither_who_asked_nor_what_that_one_has(site: Site) -> None:
    head = site.head(
        "/asked",
        accept="text/x",
        accept_encoding="gzip",
        authorization="Bearer a",
        cookie="session=1",
        if_none_match='"x"',
        range="bytes=0-1",
    )
    expected = "GET {'accept': 'text/x'} {}"
    assert (head.status, head.state, head.text) == (200, "miss", "")
    assert int(head.headers["content-length"]) == len(expected)
    kept = site.get("/asked")
    assert (kept.state, kept.text) == ("hit", expected)
    assert len(site.renders) == 1


def it_keeps_no_redirection_to_another_spelling_of_the_same_page(site: Site) -> None:
    assert [site.get("/spelling").state for _ in range(2)] == ["bypass", "bypass"]
    assert [site.get("/elsewhere").state for _ in range(2)] == ["miss", "hit"]


def it_passes_other_methods_to_the_view(site: Site) -> None:
    for _ in range(2):
        answer = site.post("/hello")
        assert (answer.status, answer.state) == (200, None)
    assert len(site.renders) == 2


def it_leaves_an_answer_by_exception_to_the_framework(site: Site) -> None:
    for _ in range(2):
        answer = site.get("/missing")
        assert answer.status == 404
    # It was no failed render, after which nobody would be let in.
    assert len(site.renders) == 2


def it_pauses_after_a_failed_render(site: Site) -> None:
    assert site.get("/broken").status == 500
    paused = site.get("/broken")
    assert paused.status == 503
    assert paused.headers["cache-control"] == "no-store"
    assert 0 < int(paused.headers["retry-after"]) <= 60
    assert len(site.renders) == 1


@pytest.mark.parametrize("path", ["/mine", "/task"])
def it_keeps_nothing_that_is_for_one_visitor(site: Site, path: str) -> None:
    for _ in range(2):
        answer = site.get(path)
        assert (answer.text, answer.state) == (path[1:], "bypass")
        assert answer.headers["cache-control"] == "no-store"
    assert len(site.renders) == 2
    assert ("set-cookie" in answer.headers) == (path == "/mine")


def it_keeps_what_is_streamed(site: Site) -> None:
    assert [site.get("/streamed").text for _ in range(2)] == ["stream", "stream"]
    assert len(site.renders) == 1


def it_keeps_what_is_read_from_a_file(site: Site) -> None:
    answers = [site.get("/file") for _ in range(2)]
    assert [answer.state for answer in answers] == ["miss", "hit"]
    assert {answer.text for answer in answers} == {Path(__file__).read_text()}
    assert len(site.renders) == 1


def it_keeps_no_page_that_varies_by_what_it_is_not_told_apart_by(site: Site) -> None:
    assert [site.get("/translated").state for _ in range(2)] == ["bypass", "bypass"]
    assert [site.get("/encodable").state for _ in range(2)] == ["miss", "hit"]


def it_shows_who_renders_for_everybody_no_part_of_the_query_that_does_not_count(site: Site) -> None:
    first = site.get("/query?utm_source=mallory&page=%C3%BC+2&page=3&fbclid=x")
    assert first.text.startswith("page=%C3%BC+2&page=3 {'page': ")
    assert "mallory" not in first.text
    assert site.get("/query?page=%C3%BC%202&page=3").state == "hit"


@pytest.mark.parametrize("cookie", ["=session=mallory", " = session=mallory; ", ";=mallory;"])
def it_shows_who_renders_for_everybody_no_cookie_without_a_name(
    server: Server, name: str, cookie: str
) -> None:
    with Coordinator(server.address) as coordinator:
        app = flask.Flask(name)

        @app.route(f"/{name}")
        @leasehold.flask.page(Pages(coordinator), POLICY)
        def view() -> str:
            return str(flask.request.headers.get("cookie"))

        client = app.test_client(use_cookies=False)
        assert client.get(f"/{name}", headers={"cookie": cookie}).text == "None"


def it_tells_repeated_cookies_apart_as_views_may(server: Server, name: str) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with coordinator:
            yield

    coordinator = AsyncCoordinator(server.address)

    @leasehold.starlette.page(AsyncPages(coordinator), POLICY)
    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.headers["cookie"])

    with TestClient(Starlette(routes=[Route(f"/{name}", view)], lifespan=lifespan)) as client:
        for cookie in ("lang=de; lang=en", "lang=fr; lang=en"):
            assert client.get(f"/{name}", headers={"cookie": cookie}).text == cookie


def it_hides_the_session_and_what_was_made_of_it_from_views_of_flask(server: Server, name: str) -> None:
    app = flask.Flask(name)
    app.secret_key = "plugh"
    coordinator = Coordinator(server.address)

    @app.before_request
    def who() -> None:
        flask.g.user = flask.session.get("user")

    @app.route("/login")
    def login() -> str:
        flask.session["user"] = "ann"
        return ""

    @app.route(f"/{name}")
    @leasehold.flask.page(Pages(coordinator), POLICY, identity=PUBLIC)
    def view() -> str:
        environ = flask.request.environ
        seen = (flask.session.get("user"), flask.g.get("user"), flask.request.remote_user)
        return f"{seen} {environ.get('mallory')} {flask.request.path} {sorted(flask.request.view_args or {})}"

    ann = app.test_client()
    ann.get("/login")
    expected = f"(None, None, None) None /{name} []"
    of_the_server = {"REMOTE_USER": "ann", "AUTH_TYPE": "Basic", "mallory": "ann"}
    answers = [ann.get(f"/{name}", environ_overrides=of_the_server), app.test_client().get(f"/{name}")]
    assert [answer.text for answer in answers] == [expected, expected]
    assert [answer.headers["x-isr-state"] for answer in answers] == ["miss", "hit"]
    coordinator.close()


def it_keeps_the_pages_of_those_apart_whom_the_server_of_flask_knows(server: Server, name: str) -> None:
    with Coordinator(server.address) as coordinator:
        app = flask.Flask(name)

        @app.route(f"/{name}")
        @leasehold.flask.page(Pages(coordinator), POLICY)
        def view() -> str:
            return str(flask.request.remote_user)

        client = app.test_client()
        for user in ("ann", "bob"):
            answer = client.get(f"/{name}", environ_overrides={"REMOTE_USER": user})
            assert (answer.text, answer.headers["cache-control"]) == (user, "private, no-store")
        assert client.get(f"/{name}").text == "None"


def it_lets_views_of_flask_that_depend_on_all_cookies_have_their_session(server: Server, name: str) -> None:
    app = flask.Flask(name)
    app.secret_key = "plugh"
    coordinator = Coordinator(server.address)

    @app.route("/login/<user>")
    def login(user: str) -> str:
        flask.session["user"] = user
        return ""

    @app.route(f"/{name}")
    @leasehold.flask.page(Pages(coordinator), POLICY)
    def view() -> str:
        return str(flask.session.get("user"))

    for user in ("ann", "bob"):
        client = app.test_client()
        client.get(f"/login/{user}")
        assert client.get(f"/{name}").text == user
    anonymous = app.test_client().get(f"/{name}")
    assert anonymous.text == "None"
    coordinator.close()


def it_says_nothing_of_cookies_where_a_view_of_flask_has_not_looked_at_them(
    server: Server, name: str
) -> None:
    with Coordinator(server.address) as coordinator:
        app = flask.Flask(name)
        app.secret_key = "plugh"

        @app.route(f"/{name}")
        @leasehold.flask.page(Pages(coordinator), POLICY, identity=PUBLIC)
        def view() -> str:
            return "for everybody"

        assert "vary" not in app.test_client().get(f"/{name}").headers


def it_hides_the_user_and_what_else_was_made_of_a_visitor_from_views_of_starlette(
    server: Server, name: str
) -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
            given = conn.headers.get("authorization")
            return (AuthCredentials(["all"]), SimpleUser(given)) if given else None

    class Noting:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            given = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
            noted = {"state": {"who": given}, "session": {"who": given}, "who": given}
            await self.app({**scope, **noted}, receive, send)

    coordinator = AsyncCoordinator(server.address)

    @leasehold.starlette.page(AsyncPages(coordinator), POLICY, identity=PUBLIC)
    async def view(request: Request) -> PlainTextResponse:
        user = request.user.display_name, request.user.is_authenticated, request.auth.scopes
        rest = request.session, getattr(request.state, "who", None), request.scope.get("who")
        return PlainTextResponse(f"{user} {rest} {request.path_params} {request.url_for('view').path}")

    middleware = [Middleware(AuthenticationMiddleware, backend=Backend()), Middleware(Noting)]
    app = Starlette(routes=[Route(f"/{name}", view, name="view")], middleware=middleware)
    expected = f"('', False, []) ({{}}, None, None) {{}} /{name}"
    with TestClient(app) as client:
        answers = [client.get(f"/{name}", headers={"authorization": "ann"}), client.get(f"/{name}")]
        assert [answer.text for answer in answers] == [expected, expected]
        assert [answer.headers["x-isr-state"] for answer in answers] == ["miss", "hit"]
        assert client.portal is not None
        client.portal.call(coordinator.close)


def it_keeps_the_pages_of_two_apps_under_different_mounts_apart(server: Server, name: str) -> None:
    with Coordinator(server.address) as coordinator:

        def mounted(mount: str) -> flask.Flask:
            app = flask.Flask(mount)

            @app.route("/about")
            @leasehold.flask.page(Pages(coordinator), POLICY, identity=PUBLIC)
            def view() -> str:
                return mount

            return app

        for mount in (f"/{name}/one", f"/{name}/two"):
            client = mounted(mount).test_client()
            assert client.get("/about", environ_overrides={"SCRIPT_NAME": mount}).text == mount


def it_decorates_views_of_fastapi(server: Server, name: str) -> None:
    coordinator = AsyncCoordinator(server.address)
    app, renders = FastAPI(), []

    @app.get(f"/{name}/{{slug}}")
    @leasehold.starlette.page(
        AsyncPages(coordinator), POLICY, identity=PUBLIC, tags=lambda request: [request.path_params["slug"]]
    )
    async def view(slug: str, request: Request, page: int = 1) -> HTMLResponse:
        renders.append(slug)
        return HTMLResponse(f"{slug} {page} {request.headers.get('authorization')}")

    with TestClient(app) as client:
        for state in ("miss", "hit"):
            answer = client.get(f"/{name}/a?page=2", headers={"authorization": "Bearer ann"})
            assert (answer.text, answer.headers["x-isr-state"]) == ("a 2 None", state)
        assert client.portal is not None
        client.portal.call(coordinator.close)
    assert renders == ["a"]


def current_user(authorization: Annotated[str, Header()] = "nobody") -> str:
    """A dependency of FastAPI's."""
    return authorization


def it_keeps_the_pages_of_those_apart_whom_a_dependency_of_fastapi_knows(server: Server, name: str) -> None:
    """By the default identity: what a dependency makes of a visitor reaches the view."""
    coordinator, app = AsyncCoordinator(server.address), FastAPI()

    @app.get(f"/{name}")
    @leasehold.starlette.page(AsyncPages(coordinator), POLICY)
    async def view(request: Request, user: Annotated[str, Depends(current_user)]) -> HTMLResponse:
        return HTMLResponse(user)

    with TestClient(app) as client:
        for user in ("ann", "bob", "ann"):
            answer = client.get(f"/{name}", headers={"authorization": user})
            assert (answer.text, answer.headers["cache-control"]) == (user, "private, no-store")
        assert client.get(f"/{name}").text == "nobody"
        assert client.portal is not None
        client.portal.call(coordinator.close)


def it_wants_the_request_among_the_arguments_of_a_view(server: Server) -> None:
    with Coordinator(server.address) as coordinator:

        @page(Pages(coordinator), POLICY, Own())
        def view(greeting: str) -> str:
            return greeting

        with pytest.raises(TypeError, match="its request"):
            view("hello")


def it_refuses_visitors_of_a_tenant_where_there_is_none(site: Site) -> None:
    answer = site.get("/hello", x_tenant_id="acme")
    assert (answer.status, answer.state) == (400, "bypass")
    assert site.renders == []


@dataclass(frozen=True)
class Asked:
    """A request of a framework of this test's own."""

    path: str


class Own:
    """Texts are its responses."""

    def visit(self, request: Asked) -> Visit:
        return Visit(method="GET", path=request.path, query={}, headers={}, cookies=())

    def is_request(self, argument: object) -> bool:
        return isinstance(argument, Asked)

    def for_everybody(self, request: Asked, shown: Shown) -> Asked:
        return request

    def rendered(self, response: str) -> Rendered:
        return Rendered(body=response)

    def response(self, response: Response) -> str:
        return f"{response.state.value}: {response.body.decode()}"

    def is_answer(self, error: Exception) -> bool:
        return isinstance(error, LookupError)


def it_works_for_any_framework(server: Server, name: str) -> None:
    with Coordinator(server.address) as coordinator:

        @page(Pages(coordinator), POLICY, Own())
        def view(request: Asked, greeting: str = "hello") -> str:
            if request.path.endswith("nobody"):
                raise LookupError(request.path)
            return f"{greeting} {request.path}"

        asked = Asked(f"/{name}")
        assert view(asked, greeting="hi") == f"miss: hi /{name}"
        assert view(asked) == f"hit: hi /{name}"
        with pytest.raises(LookupError):
            view(Asked(f"/{name}/nobody"))


def it_runs_in_one_event_loop_after_another(server: Server, name: str) -> None:
    async def visit(number: int) -> str:
        async with AsyncCoordinator(server.address) as coordinator:
            pages = AsyncPages(coordinator)
            entry = PUBLIC.entry(Visit(method="GET", path=f"/{name}", query={}, headers={}, cookies=()))

            async def render(_: object) -> Rendered:
                return Rendered(body=str(number))

            return (await pages.serve(entry, POLICY, render)).body.decode()

    assert [asyncio.run(visit(number)) for number in range(3)] == ["0", "0", "0"]
