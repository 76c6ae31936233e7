"""Views of Starlette and of Flask, behind their decorators."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import flask
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route
from starlette.testclient import TestClient
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
from leasehold.views import Visit, page

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

    def with_headers(self, request: Asked, headers: Mapping[str, str | None]) -> Asked:
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
