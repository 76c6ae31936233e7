"""Who calls: what a token allows, and how it is renewed. A real coordinator, where it is not said otherwise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.api import Api
from support.files import write
from support.proxy import Proxy
from support.scripted import missing, refused
from support.server import Server

from leasehold import (
    Coordinator,
    Data,
    EntryRef,
    Granted,
    InDoubt,
    Key,
    NewPage,
    NoToken,
    PageMetadata,
    PagesInvalidated,
    Reason,
    Refused,
    Security,
    Settings,
    Token,
    WatchMessage,
    WatchStarted,
    WholeTenant,
)

RENDERER = "the-token-of-the-renderer-of-acme"
READER = "the-token-of-the-reader-of-acme"
NEXT = "the-next-token-of-the-renderer-of-acme"
PAGE = EntryRef("page", tenant="acme")
PATIENCE_SECONDS = 30.0

POLICY = """
[[rule]]
principal = "render-{tenant}"
tenant = "{tenant}"
rights = ["read", "render", "invalidate"]

[[rule]]
principal = "reader"
tenants = ["acme"]
rights = ["read"]
"""

Connect = Callable[..., Coordinator]


class Guarded:
    """A coordinator that asks for tokens, and which it knows."""

    def __init__(self, folder: Path, new_server: Callable[..., Server]) -> None:
        self.folder = folder
        write(folder / "policy.toml", POLICY)
        self.know(RENDERER)
        self.server = new_server(
            "--auth", "token", "--policy", str(folder / "policy.toml"), "--tokens", str(folder / "tokens.toml"),
            "--reload-interval", "100ms",
        )  # fmt: skip
        self.address = self.server.address

    def know(self, renderer: str) -> None:
        """From now on, or soon."""
        known = {"render-acme": renderer, "reader": READER}
        lines = [f'[[token]]\nprincipal = "{who}"\nsecret = "{token}"\n' for who, token in known.items()]
        write(self.folder / "tokens.toml", "".join(lines))


@pytest.fixture
def guarded(tmp_path: Path, new_server: Callable[..., Server]) -> Guarded:
    return Guarded(tmp_path, new_server)


@contextmanager
def watching(caller: Coordinator) -> Iterator[Iterator[WatchMessage]]:
    """While the block runs: a watch that is collected later would be ended by a loop that runs no more."""
    watched: Any = caller.watch(WholeTenant("acme"))
    try:
        yield watched
    finally:
        watched.close()


def presenting(**security: Any) -> Settings:
    return Settings(security=Security(**security))


def reason(work: Callable[[], Any]) -> Reason | None:
    """Why it is refused, if it is."""
    try:
        work()
    except Refused as error:
        refusal = error
    else:
        return None
    assert not refusal.may_have_been_applied
    return refusal.reason


def tried(caller: Coordinator) -> tuple[Reason | None, Reason | None]:
    """What becomes of a lookup, and of an acquire."""

    def acquire() -> None:
        acquired = caller.acquire(PAGE)
        if isinstance(acquired, Granted):
            acquired.lease.release()

    return reason(lambda: caller.lookup(PAGE)), reason(acquire)


def becomes(caller: Coordinator, expected: Reason | None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while tried(caller) != (expected, expected):
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Source:
    """Answers with one token after the other, and with the last for good."""

    def __init__(self, *tokens: Token) -> None:
        self._tokens = list(tokens)
        self.asked = 0

    def __call__(self) -> Token:
        self.asked += 1
        return self._tokens[min(self.asked, len(self._tokens)) - 1]


def it_allows_what_the_token_allows(guarded: Guarded, connect: Connect) -> None:
    unknown = (Reason.UNAUTHENTICATED, Reason.UNAUTHENTICATED)
    assert tried(connect(guarded.address)) == unknown
    assert tried(connect(guarded.address, presenting(token="nobody-knows-this-one"))) == unknown
    assert tried(connect(guarded.address, presenting(token=READER))) == (None, Reason.PERMISSION_DENIED)
    assert tried(connect(guarded.address, presenting(token=RENDERER))) == (None, None)


def it_presents_the_token_with_every_kind_of_call(guarded: Guarded, connect: Connect) -> None:
    settings = Settings(security=Security(token=RENDERER), inline_limit_bytes=0)
    caller = connect(guarded.address, settings)
    acquired = caller.acquire(PAGE, wait_seconds=1)
    assert isinstance(acquired, Granted)
    acquired.lease.renew()
    # Uploaded ahead.
    acquired.lease.commit(NewPage("<h1>Page</h1>", metadata=PageMetadata(revalidate_seconds=60)))
    served = caller.serve_page(PAGE)
    assert served.body.collect(100) == b"<h1>Page</h1>"
    with watching(caller) as watched:
        assert isinstance(next(watched).event, WatchStarted)
        caller.invalidate(Key("page", tenant="acme"))
        assert isinstance(next(watched).event, PagesInvalidated)


def it_renews_a_token_that_was_refused(guarded: Guarded, connect: Connect, api: Api) -> None:
    token_file = guarded.folder / "token"
    write(token_file, f"{RENDERER}\n")
    source = Source(Token(RENDERER), Token(NEXT))
    by_file = connect(guarded.address, presenting(token_file=token_file))
    by_function = connect(guarded.address, presenting(token_by=api.function(source)))
    for caller in (by_file, by_function):
        assert tried(caller) == (None, None)
    assert source.asked == 1

    write(token_file, NEXT)
    guarded.know(NEXT)
    becomes(connect(guarded.address, presenting(token=RENDERER)), Reason.UNAUTHENTICATED)
    # One call is enough: it is refused, asks for another token, and comes again.
    for caller in (by_file, by_function):
        assert tried(caller) == (None, None)
    assert source.asked == 2


def it_goes_on_watching_with_a_renewed_token(guarded: Guarded, connect: Connect, api: Api) -> None:
    proxy = Proxy(guarded.server.port)
    source = Source(Token(RENDERER), Token(NEXT))
    watcher = connect(proxy.address, presenting(token_by=api.function(source)))
    with watching(watcher) as watched:
        assert isinstance(next(watched).event, WatchStarted)
        guarded.know(NEXT)
        becomes(connect(guarded.address, presenting(token=RENDERER)), Reason.UNAUTHENTICATED)
        proxy.cut()
        proxy.mend()
        connect(guarded.address, presenting(token=NEXT)).invalidate(Key("page", tenant="acme"))
        while not isinstance(next(watched).event, PagesInvalidated):
            pass
    assert source.asked == 2
    proxy.cut()


def it_gives_up_a_watch_whose_renewed_token_is_refused_too(
    guarded: Guarded, connect: Connect, api: Api
) -> None:
    source = Source(Token("one-that-nobody-knows"), Token("another-that-nobody-knows"))
    caller = connect(guarded.address, presenting(token_by=api.function(source)))
    with watching(caller) as watched, pytest.raises(Refused) as raised:
        next(watched)
    assert raised.value.reason is Reason.UNAUTHENTICATED
    assert source.asked == 2


def it_asks_again_before_a_token_expires(guarded: Guarded, connect: Connect, api: Api) -> None:
    source = Source(Token(RENDERER, expires_in_seconds=0.3))
    caller = connect(guarded.address, presenting(token_by=api.function(source)))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while source.asked < 4:
        assert tried(caller) == (None, None)
        assert time.monotonic() < deadline
    lasting = Source(Token(RENDERER, expires_in_seconds=3600))
    caller = connect(guarded.address, presenting(token_by=api.function(lasting)))
    for _ in range(20):
        assert tried(caller) == (None, None)
    assert lasting.asked == 1


def it_uses_a_token_while_it_lasts_although_no_new_one_can_be_had(
    guarded: Guarded, connect: Connect, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Semaphore(0)

    def source() -> Token:
        asked.release()
        if len(answers) == 0:
            raise OSError("no network")
        return answers.pop()

    # Two thirds of a short life, then as good as over: what is asked for in between fails.
    answers = [Token(RENDERER, expires_in_seconds=3.0)]
    caller = connect(guarded.address, presenting(token_by=api.function(source)))
    assert tried(caller) == (None, None)
    assert asked.acquire(timeout=PATIENCE_SECONDS)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "leasehold"):
        while not asked.acquire(blocking=False):
            assert tried(caller) == (None, None)
            assert time.monotonic() - began < PATIENCE_SECONDS
        assert tried(caller) == (None, None)
    while not (told := [record.getMessage() for record in caplog.records]):
        assert time.monotonic() - began < PATIENCE_SECONDS
    assert "no network" in told[0]
    assert RENDERER not in caplog.text


def it_asks_by_one_call_at_a_time(guarded: Guarded, connect: Connect, api: Api) -> None:
    lock, answered, count = threading.Lock(), threading.Event(), [0]

    def source() -> Token:
        with lock:
            count[0] += 1
        assert answered.wait(PATIENCE_SECONDS)
        return Token(RENDERER)

    caller = connect(guarded.address, presenting(token_by=api.function(source)))
    outcomes: list[object] = []
    threads = [threading.Thread(target=lambda: outcomes.append(tried(caller))) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while count[0] == 0:
        assert time.monotonic() < deadline
    answered.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert outcomes == [(None, None)] * 8
    assert count == [1]


def it_does_not_send_a_call_without_the_token_that_it_should_present(
    script: Callable[..., Any], connect: Connect, api: Api, tmp_path: Path
) -> None:
    scripted = script(missing)

    def failing() -> Token:
        raise OSError("no network")

    def two() -> Token:
        return Token("token, another")

    def text() -> Any:
        return "a-text"

    write(tmp_path / "odd", "two words")
    write(tmp_path / "huge", "x" * (70 << 10))
    table: list[tuple[dict[str, Any], str]] = [
        ({"token_by": api.function(failing)}, "its source failed: OSError: no network"),
        ({"token_by": api.function(two)}, "without commas"),
        ({"token_by": api.function(text)}, "security.token_by: must answer with a Token, and not str"),
        ({"token_by": api.function_of_the_other_world(lambda: Token(RENDERER))}, "security.token_by: must"),
        ({"token_file": tmp_path / "missing"}, "missing: No such file"),
        ({"token_file": tmp_path / "odd"}, "must be visible ASCII"),
        ({"token_file": tmp_path / "huge"}, "has more than 65536 bytes"),
    ]
    for security, problem in table:
        with pytest.raises(NoToken) as raised:
            connect(scripted.address, presenting(**security)).lookup(PAGE)
        error = raised.value
        assert problem in str(error)
        assert error.reason is Reason.UNAUTHENTICATED
        assert error.refusal is not None
        assert error.refusal.metadata["source"] == "client"
        assert not error.may_have_been_applied
        assert error.is_outage
        for secret in ("two words", "another", "a-text"):
            assert secret not in str(error)
    assert scripted.requests == []


def it_waits_for_a_token_within_the_timeout_of_the_call(
    script: Callable[..., Any], connect: Connect, api: Api
) -> None:
    over = threading.Event()

    def hanging() -> Token:
        over.wait(PATIENCE_SECONDS)
        return Token(RENDERER)

    scripted = script(missing)
    security = Security(token_by=api.function(hanging))
    caller = connect(scripted.address, Settings(security=security, overall_timeout_seconds=0.3))
    began = time.monotonic()
    with pytest.raises(NoToken, match=r"did not answer within 0\.3"):
        caller.lookup(PAGE)
    assert time.monotonic() - began < 5
    over.set()
    assert scripted.requests == []


def it_is_in_doubt_where_the_token_was_refused_after_an_attempt_that_may_have_been_applied(
    script: Callable[..., Any], connect: Connect
) -> None:
    unauthenticated = refused(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    scripted = script(refused(grpc.StatusCode.UNKNOWN, "OUTCOME_UNKNOWN"), unauthenticated)
    with pytest.raises(InDoubt) as raised:
        connect(scripted.address, presenting(token=RENDERER)).invalidate(Key("page"))
    assert raised.value.reason is Reason.UNAUTHENTICATED
    assert raised.value.may_have_been_applied
    assert len(scripted.requests) == 2


def it_tries_once_more_with_a_source_and_not_at_all_with_a_fixed_token(
    script: Callable[..., Any], connect: Connect, api: Api
) -> None:
    unauthenticated = refused(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    for security, attempts in (
        (Security(token=RENDERER), 1),
        (Security(token_by=api.function(lambda: Token(RENDERER))), 2),
    ):
        scripted = script(unauthenticated)
        with pytest.raises(Refused):
            connect(scripted.address, Settings(security=security)).lookup(PAGE)
        assert len(scripted.requests) == attempts


def it_fetches_while_there_is_no_token(guarded: Guarded, connect: Connect, api: Api) -> None:
    settings = presenting(token_file=guarded.folder / "missing")
    data: Data = api.data(connect(guarded.address, settings), tenant="acme", namespace="shop")
    assert data.with_revalidate("prices", 60, lambda: {"tea": 3}) == {"tea": 3}
