"""The worker in Python of the interop test: it does what it reads, a line of JSON each, and says what came of it in lines of
JSON."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Condition, Lock, Thread
from typing import Any

from leasehold import (
    AllCookies,
    BackingOff,
    BodyDelivery,
    Committed,
    Consistency,
    ConsistencyToken,
    CookieVariance,
    Coordinator,
    EntryRef,
    FreshPage,
    Granted,
    Held,
    Inline,
    LeaseholdError,
    NewPage,
    NoCookies,
    OnlyCookies,
    Page,
    PageMetadata,
    PageRequest,
    PagesInvalidated,
    Ready,
    Security,
    Settings,
    SidecarToken,
    StalePage,
    Tag,
    TooLarge,
    WatchResync,
    WatchStarted,
    WholeTenant,
)

LANGUAGE = "python"
SIDECAR_LIMIT_BYTES = 1 << 20
PAGE_LIMIT_BYTES = 16 << 20
Json = dict[str, Any]

coordinator = Coordinator(sys.argv[1], Settings(owner=LANGUAGE, security=Security.from_env()))
renders = count(1)
out = Lock()
more_heard = Condition()
heard: Json = {"started": False, "tags": [], "resyncs": 0}
"""What the watch has told so far."""


def main() -> None:
    say(event="ready")
    for line in sys.stdin:
        command = json.loads(line)
        for_each(command, ACTIONS[command["do"]])
        say(event="done")
    coordinator.close()


def serve(command: Json, key: str) -> None:
    entry = EntryRef(key)
    try:
        how, generation, html, token = served(command, entry, key)
        sidecar = read_sidecar(entry, token)
    except LeaseholdError as error:
        say(event="failed", key=key, why=str(error))
        return
    say(
        event="served",
        key=key,
        how=how,
        generation=generation,
        html=html.decode(),
        sidecar=sidecar.decode(),
        sidecar_token=token.expose(),
    )


def served(command: Json, entry: EntryRef, key: str) -> tuple[str, int, bytes, SidecarToken]:
    token = ConsistencyToken(command["token"]) if command.get("token") else None
    found = coordinator.lookup(entry, consistency_token=token, body=BodyDelivery.INLINE)
    if isinstance(found.outcome, FreshPage):
        return "hit", *page_of(found.outcome.page)
    match coordinator.acquire(
        entry,
        ttl_seconds=command["ttl_ms"] / 1000,
        wait_seconds=command["wait_ms"] / 1000,
        consistency_token=token,
        body=BodyDelivery.INLINE,
    ):
        case Ready(current=FreshPage(page=page) | StalePage(page=page)):
            return "wait", *page_of(page)
        case Granted(lease=lease):
            time.sleep(command["render_ms"] / 1000)
            name = f"{LANGUAGE}-{next(renders)}"
            assert lease.sidecar_token
            html = (
                f'<!doctype html><h1 data-generation="{lease.generation}" data-render="{name}" '
                f'data-sidecar="{lease.sidecar_token.expose()}">{key}</h1>'
            ).encode()
            sidecar = f'{{"key":"{key}","generation":{lease.generation},"render":"{name}"}}'
            match lease.commit(NewPage(html, sidecar, PageMetadata(tags=(command["tag"],)))):
                case Committed(sidecar_token=SidecarToken() as sidecar_token):
                    say(event="rendered", key=key, generation=lease.generation, render=name)
                    return "render", lease.generation, html, sidecar_token
                case _:
                    say(event="overtaken", key=key)
                    return served(command, entry, key)
        case other:
            raise LeaseholdError(f"acquired: {other}")


def page_of(page: Page) -> tuple[int, bytes, SidecarToken]:
    if not isinstance(page.body, Inline) or page.sidecar_token is None:
        raise LeaseholdError(f"not a page with its bodies: {page}")
    return page.generation, page.body.data, page.sidecar_token


def hold(command: Json, key: str) -> None:
    match coordinator.acquire(EntryRef(key), ttl_seconds=command["ttl_ms"] / 1000):
        case Granted(lease=lease):
            say(event="holding", key=key, generation=lease.generation)
        case other:
            say(event="failed", key=key, why=str(other))


def invalidate(command: Json, _: None) -> None:
    say(event="invalidated", token=coordinator.invalidate(Tag(command["tag"])))


def watch(_: Json, __: None) -> None:
    Thread(target=follow, daemon=True).start()
    with more_heard:
        more_heard.wait_for(lambda: heard["started"])
    say(event="watching")


def watched(command: Json, _: None) -> None:
    with more_heard:
        more_heard.wait_for(lambda: command["tag"] in heard["tags"])
        said = {"tags": list(heard["tags"]), "resyncs": heard["resyncs"]}
    say(event="watched", **said)


def follow() -> None:
    """Notes what a watch tells, until the end of the process."""
    while True:
        try:
            for message in coordinator.watch(WholeTenant("default")):
                with more_heard:
                    match message.event:
                        case WatchStarted():
                            heard["started"] = True
                        case WatchResync():
                            heard["resyncs"] += 1
                        case PagesInvalidated(scopes=scopes):
                            heard["tags"] += [scope.tag for scope in scopes if isinstance(scope, Tag)]
                    more_heard.notify_all()
        except LeaseholdError as error:
            # Without a watch for a while, in which it may have missed something; it goes on trying.
            if not error.is_retryable:
                return
            with more_heard:
                heard["resyncs"] += 1


def commit(_: Json, page: Json) -> None:
    match coordinator.acquire(entry_of(page), body=BodyDelivery.INLINE):
        case Granted(lease=lease):
            committed = lease.commit(NewPage(page["html"], page["html"]))
            assert isinstance(committed, Committed)
            assert committed.sidecar_token
            token = committed.sidecar_token.expose()
            say(event="committed", id=page["id"], how="render", html=page["html"], sidecar_token=token)
        case other:
            say(event="failed", id=page["id"], why=str(other))


def look_up(_: Json, page: Json) -> None:
    found = coordinator.lookup(
        entry_of(page),
        consistency=Consistency.STRICT,
        consistency_token=ConsistencyToken(page["token"]) if page.get("token") else None,
        body=BodyDelivery.INLINE,
    )
    match found.outcome:
        case FreshPage(page=fresh):
            say(event="found", id=page["id"], html=page_of(fresh)[1].decode())
        case _:
            say(event="found", id=page["id"], html="")


def sidecar(_: Json, page: Json) -> None:
    body = read_sidecar(entry_of(page), SidecarToken(page["token"]))
    say(event="found", id=page["id"], html=body.decode())


class NotToday(Exception):
    """A render that fails."""


class NoPage(Exception):
    """The last render failed, and there is none of before."""


def show(command: Json, page: Json) -> None:
    try:
        how, html, metadata = shown(command, entry_of(page), page)
    except NotToday as error:
        say(event="failed", id=page["id"], error=str(error))
        return
    except NoPage:
        say(event="backing_off", id=page["id"])
        return
    say(
        event="shown",
        id=page["id"],
        how=how,
        size=len(html),
        digest=hashlib.sha256(html).hexdigest(),
        status=metadata.status,
        content_type=metadata.content_type or "text/html; charset=utf-8",
        headers=dict(metadata.headers),
    )


def shown(command: Json, entry: EntryRef, page: Json) -> tuple[str, bytes, PageMetadata]:
    token = ConsistencyToken(page["token"]) if page["token"] else None
    found = coordinator.lookup(entry, consistency_token=token, body=BodyDelivery.INLINE)
    if isinstance(found.outcome, FreshPage):
        return "hit", *whole(entry, found.outcome.page)
    match coordinator.acquire(
        entry, ttl_seconds=command["ttl_ms"] / 1000, consistency_token=token, body=BodyDelivery.INLINE
    ):
        case Granted(lease=lease):
            with lease:
                if page["failure"] not in ("", "refused"):
                    raise NotToday(f"no {page['id']} today")
                html = (page["id"] * (1 + page["size"] // len(page["id"])))[: page["size"]].encode()
                metadata = PageMetadata(
                    status=503 if page["failure"] else page["status"],
                    content_type=page["content_type"] or None,
                    headers=tuple((name, value) for name, value in page["headers"]),
                    tags=(page["tag"],),
                )
                lease.commit(NewPage(html, metadata=metadata))
            return "render", html, metadata
        case Held(previous=StalePage(page=previous)) | BackingOff(previous=StalePage(page=previous)):
            return "stale", *whole(entry, previous)
        case BackingOff():
            raise NoPage
        case other:
            raise LeaseholdError(f"acquired: {other}")


def whole(entry: EntryRef, page: Page) -> tuple[bytes, PageMetadata]:
    """A page with its body, wherever that is."""
    match page.body:
        case Inline(data=html):
            return html, page.metadata
        case TooLarge():
            served = coordinator.serve_page(entry)
            return served.body.collect(PAGE_LIMIT_BYTES), served.current.page.metadata
        case other:
            raise LeaseholdError(f"not a body: {other}")


def read_sidecar(entry: EntryRef, token: SidecarToken) -> bytes:
    """A stream that breaks off in the middle is for its reader to begin again."""
    try:
        return coordinator.serve_sidecar(entry, token).body.collect(SIDECAR_LIMIT_BYTES)
    except LeaseholdError as error:
        if not error.is_retryable:
            raise
        return coordinator.serve_sidecar(entry, token).body.collect(SIDECAR_LIMIT_BYTES)


ACTIONS: dict[str, Callable[[Json, Any], None]] = {
    "serve": serve,
    "hold": hold,
    "invalidate": invalidate,
    "watch": watch,
    "watched": watched,
    "commit": commit,
    "look_up": look_up,
    "sidecar": sidecar,
    "show": show,
}


def for_each(command: Json, action: Callable[[Json, Any], None]) -> None:
    """For each key or page of the command, at most ``in_flight`` at a time; once, where it has neither."""

    def work(subject: Any) -> None:
        try:
            action(command, subject)
        except LeaseholdError as error:
            refusal = error.refusal
            say(
                event="refused",
                id=subject["id"],
                reason=refusal.reason_text if refusal else "",
                metadata=dict(refusal.metadata) if refusal else {},
                fields=[violation.field for violation in refusal.fields] if refusal else [],
                why=str(error),
            )

    subjects = command.get("keys") or command.get("pages") or [None]
    with ThreadPoolExecutor(command.get("in_flight", 1)) as threads:
        for _ in threads.map(work, subjects):
            pass


def entry_of(page: Json) -> EntryRef:
    """The contract's EntryRef as JSON, in this package's words."""
    entry = page["entry"]
    name = entry["key"] if "key" in entry else request_of(entry["request"])
    return EntryRef(
        name,
        tenant=entry.get("tenant", ""),
        deployment=entry.get("deployment", ""),
        path=entry.get("path", ""),
    )


def request_of(request: Json) -> PageRequest:
    def pairs(name: str) -> list[tuple[str, str]]:
        return [(pair["name"], pair["value"]) for pair in request.get(name, [])]

    def lists(name: str) -> dict[str, list[str]]:
        return {pair["name"]: pair["values"] for pair in request.get(name, [])}

    variance: dict[str, CookieVariance] = {
        "COOKIE_VARIANCE_ALL": AllCookies(),
        "COOKIE_VARIANCE_NONE": NoCookies(),
        "COOKIE_VARIANCE_ALLOWLIST": OnlyCookies(tuple(request.get("cookieAllowlist", ()))),
    }
    return PageRequest(
        request["route"],
        params=dict(pairs("params")),
        query=lists("query"),
        headers=lists("headers"),
        cookies=pairs("cookies"),
        ignore_credentials=request.get("ignoreCredentials", False),
        cookie_variance=variance[request.get("cookieVariance", "COOKIE_VARIANCE_ALL")],
    )


def say(**report: Any) -> None:
    line = json.dumps(report)
    with out:
        print(line, flush=True)


main()
