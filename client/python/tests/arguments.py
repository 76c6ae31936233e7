"""What is of the wrong type is refused where it is said, by its name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import flask
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient
from support.api import Api
from support.server import Server

import leasehold.flask
import leasehold.starlette
from leasehold import (
    AsyncCoordinator,
    AsyncPages,
    BackingOff,
    ConfigurationError,
    Coordinator,
    Deployment,
    EntryRef,
    FreshPage,
    Identity,
    InvalidArgument,
    Key,
    NoCookies,
    OnlyCookies,
    PageMetadata,
    PageRequest,
    Pages,
    PathPrefix,
    Policy,
    Rendered,
    Settings,
    State,
    Tag,
    WholeTenant,
)

BLOCKING = Policy.blocking(60, wait_seconds=0.2)
PUBLIC = Identity(ignore_credentials=True, cookies=NoCookies())

# Each with the field that its error names.
WRONG: list[tuple[str, Callable[..., Any]]] = [
    ("tags", lambda: Rendered(body="x", tags="docs")),  # type: ignore[arg-type]
    ("tags", lambda: Rendered(body="x", tags=(5,))),  # type: ignore[arg-type]
    ("tags", lambda: Rendered(body="x", tags=None)),  # type: ignore[arg-type]
    ("body", lambda: Rendered(body=None)),  # type: ignore[arg-type]
    ("body", lambda: Rendered(body={"a": 1})),  # type: ignore[arg-type]
    ("status", lambda: Rendered(body="x", status="200")),  # type: ignore[arg-type]
    ("content_type", lambda: Rendered(body="x", content_type=None)),  # type: ignore[arg-type]
    ("headers", lambda: Rendered(body="x", headers={"X-A": "b"})),  # type: ignore[arg-type]
    ("headers", lambda: Rendered(body="x", headers=(("X-A", 1),))),  # type: ignore[arg-type]
    ("etag", lambda: Rendered(body="x", etag=b'"a"')),  # type: ignore[arg-type]
    ("sidecar", lambda: Rendered(body="x", sidecar={"a": 1})),  # type: ignore[arg-type]
    ("tags", lambda: PageMetadata(tags="docs")),  # type: ignore[arg-type]
    ("headers", lambda: PageMetadata(headers={"x-a": "b"})),  # type: ignore[arg-type]
    ("revalidate_seconds", lambda: Policy.blocking("60")),  # type: ignore[arg-type]
    ("wait_seconds", lambda: Policy.blocking(60, wait_seconds=None)),  # type: ignore[arg-type]
    ("window_seconds", lambda: Policy.stale_while_revalidate(60, "300")),  # type: ignore[arg-type]
    ("lease_ttl_seconds", lambda: Policy.blocking(60, lease_ttl_seconds="5")),  # type: ignore[arg-type]
    ("on_failure", lambda: Policy.blocking(60, on_failure="error")),  # type: ignore[arg-type]
    ("on_contention", lambda: Policy.blocking(60, on_contention="wait")),  # type: ignore[arg-type]
    ("overall_timeout_seconds", lambda: Settings(overall_timeout_seconds="5")),  # type: ignore[arg-type]
    ("name", lambda: EntryRef(None)),  # type: ignore[arg-type]
    ("tenant", lambda: EntryRef("k", tenant=None)),  # type: ignore[arg-type]
    ("route", lambda: PageRequest(None)),  # type: ignore[arg-type]
    ("params", lambda: PageRequest("/", params={"id": 5})),  # type: ignore[dict-item]
    ("query", lambda: PageRequest("/", query={"page": "12"})),
    ("headers", lambda: PageRequest("/", headers={"x-tenant-id": "acme"})),
    ("headers", lambda: PageRequest("/", headers={"x-tenant-id": [b"acme"]})),  # type: ignore[list-item]
    ("cookies", lambda: PageRequest("/", cookies={"session": "1"})),  # type: ignore[arg-type]
    ("cookie_variance", lambda: PageRequest("/", cookie_variance=NoCookies)),  # type: ignore[arg-type]
    ("names", lambda: OnlyCookies("session")),  # type: ignore[arg-type]
    ("query", lambda: Identity(query="page")),  # type: ignore[arg-type]
    ("tag", lambda: Tag(5)),  # type: ignore[arg-type]
    ("key", lambda: Key(None)),  # type: ignore[arg-type]
    ("prefix", lambda: PathPrefix(b"/docs")),  # type: ignore[arg-type]
    ("deployment", lambda: Deployment(7)),  # type: ignore[arg-type]
    ("tenant", lambda: WholeTenant(7)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    ("field", "made"), WRONG, ids=[f"{number}-{field}" for number, (field, _) in enumerate(WRONG)]
)
def it_names_the_field_that_is_of_the_wrong_type(field: str, made: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{field}: must be ") as refused:
        made()
    assert refused.value.field == field
    assert isinstance(refused.value, TypeError)


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("scopes", lambda c: c.invalidate("docs")),
        ("scopes", lambda c: c.invalidate([Tag("docs")])),
        ("depth", lambda c: c.invalidate(Tag("docs"), depth="hard")),
        ("entry", lambda c: c.lookup("k")),
        ("entry", lambda c: c.acquire(None)),
        ("body", lambda c: c.lookup(EntryRef("k"), body="inline")),
        ("consistency", lambda c: c.lookup(EntryRef("k"), consistency="strict")),
        ("ttl_seconds", lambda c: c.acquire(EntryRef("k"), ttl_seconds="5")),
        ("filters", lambda c: next(c.watch("docs"))),
    ],
)
def it_names_the_argument_of_a_call_that_is_of_the_wrong_type(
    coordinator: Coordinator, field: str, asked: Callable[[Any], Any]
) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{field}: must be "):
        asked(coordinator)


def it_names_the_argument_of_pages_and_data_that_is_of_the_wrong_type(
    api: Api, coordinator: Coordinator
) -> None:
    pages: Any = api.pages(coordinator)
    data: Any = api.data(coordinator)
    asked: Callable[[], Any]
    for field, asked in (
        ("entry", lambda: pages.serve("shop", BLOCKING, lambda _: "x")),
        ("policy", lambda: pages.serve(EntryRef("shop"), 60, lambda _: "x")),
        ("scopes", lambda: pages.invalidate("shop")),
        ("key", lambda: data.with_revalidate(5, 60, lambda: 1)),
        ("ttl_seconds", lambda: data.with_revalidate("k", "60", lambda: 1)),
        ("key", lambda: data.invalidate(None)),
    ):
        with pytest.raises(InvalidArgument, match=rf"^{field}: must be "):
            asked()


def it_says_nothing_of_what_was_given_but_its_type() -> None:
    with pytest.raises(ConfigurationError) as refused:
        PageRequest("/", cookies={"session": "plugh"})  # type: ignore[arg-type]
    assert "plugh" not in str(refused.value)


def it_takes_any_sequence_of_tags_and_headers(coordinator: Coordinator, pages: Pages, name: str) -> None:
    rendered = Rendered(body="x", tags=[name], headers=[["X-A", "b"]])  # type: ignore[arg-type]
    assert rendered == Rendered(body="x", tags=(name,), headers=(("X-A", "b"),))
    pages.serve(EntryRef(name), BLOCKING, lambda _: rendered)
    outcome = coordinator.lookup(EntryRef(name)).outcome
    assert isinstance(outcome, FreshPage)
    assert outcome.page.metadata.tags == (name,)


@pytest.mark.parametrize("body", ["<h1>hello</h1>", b"<h1>hello</h1>"])
def it_takes_a_text_or_bytes_for_a_page(pages: Pages, name: str, body: str | bytes) -> None:
    for state in (State.MISS, State.HIT):
        response = pages.serve(EntryRef(name), BLOCKING, lambda _: body)
        assert (response.state, response.status, response.body) == (state, 200, b"<h1>hello</h1>")
        assert response.header("content-type") == "text/html; charset=utf-8"


@pytest.mark.parametrize("answer", [None, {"a": 1}, 5])
def it_gives_the_lease_of_what_is_no_page_back_with_the_reason(
    coordinator: Coordinator, pages: Pages, name: str, answer: Any
) -> None:
    with pytest.raises(InvalidArgument, match=r"^render: must answer a Rendered, str or bytes, and not "):
        pages.serve(EntryRef(name), BLOCKING, lambda _: answer)
    paused = coordinator.acquire(EntryRef(name), wait_seconds=5.0)
    assert isinstance(paused, BackingOff)
    assert paused.reason.startswith("InvalidArgument: render: must answer")


def it_tells_renders_that_wait_from_those_that_block(server: Server, name: str) -> None:
    async def waits(_: object) -> str:
        return "x"

    with (
        Coordinator(server.address) as coordinator,
        pytest.raises(InvalidArgument, match=r"^render: must answer .* and not coroutine"),
    ):
        Pages(coordinator).serve(EntryRef(f"{name} blocking"), BLOCKING, waits)  # type: ignore[arg-type]

    async def serve() -> None:
        async with AsyncCoordinator(server.address) as coordinator:
            await AsyncPages(coordinator).serve(EntryRef(name), BLOCKING, lambda _: "x")  # type: ignore[arg-type, return-value]

    with pytest.raises(InvalidArgument, match=r"^render: must be async"):
        asyncio.run(serve())


BY_THREADS = """
from leasehold import *
pages = Pages(Coordinator({address!r}))
pages.serve(EntryRef({name!r}), Policy.blocking(60), lambda _: Rendered(body="x", tags=(5,)))
"""
BY_ASYNCIO = """
import asyncio
from leasehold import *

async def render(_):
    return Rendered(body="x", tags=(5,))

async def main():
    await AsyncPages(AsyncCoordinator({address!r})).serve(EntryRef({name!r}), Policy.blocking(60), render)

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [BY_THREADS, BY_ASYNCIO], ids=["threads", "asyncio"])
def it_gives_a_lease_back_also_where_its_process_ends_by_the_error(
    server: Server, name: str, script: str
) -> None:
    """A short script, which closes nothing."""
    with Coordinator(server.address) as coordinator:
        for number in range(15):
            entry = EntryRef(f"{name}-{number}")
            ended = subprocess.run(
                [sys.executable, "-c", script.format(address=server.address, name=entry.name)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert ended.returncode == 1
            assert "tags: must be" in ended.stderr
            assert "lease not given back" not in ended.stderr
            paused = coordinator.acquire(entry)
            assert isinstance(paused, BackingOff)
            assert "tags: must be" in paused.reason


def it_says_what_a_decorated_view_of_fastapi_must_answer(server: Server, name: str) -> None:
    coordinator, app = AsyncCoordinator(server.address), FastAPI()
    kept = leasehold.starlette.page(AsyncPages(coordinator), BLOCKING, identity=PUBLIC)

    @app.get(f"/{name}/dict")
    @kept
    async def view(request: Request) -> Any:
        return {"tea": 3}

    @app.get(f"/{name}/plain")
    @kept
    def plain(request: Request) -> Any:
        return HTMLResponse("x")

    with TestClient(app) as client:
        with pytest.raises(InvalidArgument, match=r"^view: must answer a Response of Starlette's.* not dict"):
            client.get(f"/{name}/dict")
        with pytest.raises(InvalidArgument, match=r"^view: must be async"):
            client.get(f"/{name}/plain")
        assert client.portal is not None
        client.portal.call(coordinator.close)


def it_refuses_a_text_for_the_tags_of_a_view(server: Server, name: str) -> None:
    with Coordinator(server.address) as coordinator:
        with pytest.raises(InvalidArgument, match=r"^tags: must be "):
            leasehold.flask.page(Pages(coordinator), BLOCKING, tags="docs")
        app = flask.Flask(name)
        app.testing = True

        @app.route(f"/{name}")
        @leasehold.flask.page(Pages(coordinator), BLOCKING, identity=PUBLIC, tags=lambda _: "docs")
        def view() -> str:
            return "x"

        with pytest.raises(InvalidArgument, match=r"^tags: must be "):
            app.test_client().get(f"/{name}")


@pytest.fixture
def pages(api: Api, coordinator: Coordinator) -> Pages:
    return api.pages(coordinator)
