"""Starts a coordinator and five workers, one in each language, tells all of them what to do at once, and has what they report
judged. Everything that it started has ended when it ends, whatever happens.

    drive.py --coordinator PROGRAM [--access FOLDER] [--nodes PROGRAM] --worker rust='PROGRAM ARGUMENTS' --worker go=...
             [--victim LANGUAGE] [--seed N]
    drive.py --self-test
"""

import argparse
import asyncio
import hashlib
import json
import random
import resource
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judge import (
    LANGUAGES,
    Answers,
    Killed,
    Report,
    Round,
    generations,
    judge_answers,
    judge_rolls,
    judge_round,
    judge_tally,
    judge_watches,
    tally,
)
from processes import Access, Broken, Command, Coordinator, Nodes, Process, Worker
from tampering import self_test

PAGES = 100
REQUESTS = 1000
REQUESTS_AFTER_AN_INVALIDATION = 200
IN_FLIGHT = 6
RENDER_MS = 40
HELD = 5
KILLED_AFTER = 100
"""Requests. What a worker says is read as it comes, and a pipe holds some hundred lines: it is far from done then."""
HELD_MS = 3000
MIB = 1 << 20
RESPONSES: dict[str, dict[str, Any]] = {
    # Too large to come with the answer to a lookup; the second too large to be committed in one message, too.
    "2 MiB": {"size": 2 * MIB},
    "5 MiB": {"size": 5 * MIB},
    "missing": {
        "size": 100,
        "status": 404,
        "content_type": "text/plain; charset=utf-8",
        "headers": [["content-language", "de"], ["x-shelf", "empty"]],
    },
    "moved": {"size": 0, "status": 308, "headers": [["location", "/elsewhere?from=here"]]},
}
FAILURES = ("error", "crash", "left", "refused")
"""A render that fails as usual; or in the way of the language in which programs fail that are broken; or because its
visitor has left; and a page with a status that the coordinator refuses."""

WATCHING = ("rust", "typescript", "python")
"""Their packages have watches, which resume; the small clients of the others have none."""
ROLLS = 4
"""Each of the two coordinators twice."""
STOP_SECONDS = 21.0
"""What a coordinator is given by default, and a moment."""

ALL_SECONDS = 840.0

Reports = dict[str, list[Report]]
Question = dict[str, Any]
"""About a page of the table, as workers take it: its ``id``, the ``entry`` as JSON, and what else there is."""


class Fleet:
    """The workers."""

    def __init__(self, workers: dict[str, Worker]) -> None:
        self.workers = workers

    async def do(self, commands: dict[str, Command]) -> Reports:
        """At once."""
        reports = await asyncio.gather(
            *(self.workers[name].do(command) for name, command in commands.items())
        )
        return dict(zip(commands, reports, strict=True))

    async def serve(
        self, name: str, pages: list[str], requests: int, seed: random.Random, **command: Any
    ) -> Round:
        asked = {language: shuffled(pages, requests, seed) for language in self.workers}
        reports = await self.do({language: serving(keys, **command) for language, keys in asked.items()})
        return Round(name, asked, reports)


def serving(keys: list[str], **command: Any) -> Command:
    return {
        "do": "serve",
        "keys": keys,
        "tag": "interop",
        "ttl_ms": 15_000,
        "wait_ms": 30_000,
        "render_ms": RENDER_MS,
        "in_flight": IN_FLIGHT,
    } | command


def shuffled(pages: list[str], requests: int, seed: random.Random) -> list[str]:
    """All of them, as often as it takes, each time in another order."""
    order: list[str] = []
    while len(order) < requests:
        order += seed.sample(pages, len(pages))
    return order[:requests]


async def pages_and_invalidations(fleet: Fleet, seed: random.Random) -> tuple[list[Round], list[str]]:
    """The same pages to all; and again after an invalidation, which each language makes once."""
    pages = [f"page-{number:03}" for number in range(PAGES)]
    rounds = [await fleet.serve("at first", pages, REQUESTS, seed)]
    for language, worker in fleet.workers.items():
        [invalidated] = await worker.do({"do": "invalidate", "tag": "interop"})
        if invalidated["event"] != "invalidated":
            raise Broken(f"{language} could not invalidate: {invalidated}")
        after = await fleet.serve(
            f"after the invalidation by {language}",
            pages,
            REQUESTS_AFTER_AN_INVALIDATION,
            seed,
            token=invalidated["token"],
        )
        after.before = generations(rounds[-1])
        rounds.append(after)
    wrong = [what for told in rounds for what in judge_round(told)]
    return rounds, wrong + judge_tally(tally(rounds), list(fleet.workers))


class Keys:
    """Pages that are committed by key are found by request, from every language, and the other way round."""

    def __init__(self, fleet: Fleet, table: dict[str, Any]) -> None:
        self.fleet = fleet
        self.pages: list[Question] = table["pages"]
        self.refusals: list[Question] = table["refusals"]
        self.languages = list(fleet.workers)
        self.wrong: list[str] = []

    async def judge(self) -> list[str]:
        """What is wrong with them."""
        await self._committed_by_key()
        await self._committed_by_request()
        await self._refused()
        return self.wrong

    async def _committed_by_key(self) -> None:
        """Each language commits some of them; all look all of them up, by each request that comes to the same key."""
        asked: dict[str, list[Question]] = {language: [] for language in self.languages}
        for number, page in enumerate(self.pages):
            by = self.languages[number % len(self.languages)]
            entry = _entry(page, "by key", key=page["key"])
            asked[by].append({"id": page["name"], "entry": entry, "html": f"{page['name']}, by {by}"})
        reports = await self._ask("commit", asked, {by: _committed(pages) for by, pages in asked.items()})
        html = {page["id"]: page["html"] for pages in asked.values() for page in pages}
        token = {report["id"]: report.get("sidecar_token") for told in reports.values() for report in told}

        names = [page["name"] for page in self.pages]
        another = dict(zip(names, [*names[1:], names[0]], strict=True))
        questions, own, foreign, found, refused = [], [], [], {}, {}
        for page in self.pages:
            for number, request in enumerate(page["requests"]):
                name = f"{page['name']} ({number}), by request"
                question = {"id": name, "entry": _entry(page, "by key", request=request)}
                questions.append(question)
                own.append(question | {"token": token[page["name"]]})
                foreign.append(question | {"token": token[another[page["name"]]]})
                found[name] = {"event": "found", "html": html[page["name"]]}
                refused[name] = {"event": "refused", "reason": "SIDECAR_NOT_FOUND"}
        await self._ask_all("look_up", questions, found)
        await self._ask_all("sidecar", own, found)
        await self._ask_all("sidecar", foreign, refused)

    async def _committed_by_request(self) -> None:
        """Each language commits all of them, in a release of its own; all look all of them up by key."""
        asked: dict[str, list[Question]] = {}
        questions, found = [], {}
        for nth, by in enumerate(self.languages):
            asked[by] = []
            for page in self.pages:
                request = page["requests"][nth % len(page["requests"])]
                html = f"{page['name']}, by {by}"
                entry = _entry(page, f"by {by}", request=request)
                asked[by].append({"id": page["name"], "entry": entry, "html": html})
                questions.append({"id": html, "entry": _entry(page, f"by {by}", key=page["key"])})
                found[html] = {"event": "found", "html": html}
        await self._ask("commit", asked, {by: _committed(pages) for by, pages in asked.items()})
        await self._ask_all("look_up", questions, found)

    async def _refused(self) -> None:
        """What the coordinator says of errors comes through in every language."""
        for action in ("look_up", "sidecar"):
            asked = [{"id": each["name"], **each} for each in self.refusals if each["do"] == action]
            expected = {
                each["id"]: {
                    "event": "refused",
                    **{name: each[name] for name in ("reason", "metadata", "fields")},
                }
                for each in asked
            }
            await self._ask_all(action, asked, expected)

    async def _ask_all(self, action: str, asked: list[Question], expected: dict[str, Report]) -> None:
        """The same of every language."""
        await self._ask(action, dict.fromkeys(self.languages, asked), dict.fromkeys(self.languages, expected))

    async def _ask(self, action: str, asked: dict[str, list[Question]], expected: Answers) -> Reports:
        reports = await self.fleet.do(
            {
                language: {"do": action, "in_flight": IN_FLIGHT, "pages": questions}
                for language, questions in asked.items()
            }
        )
        self.wrong += judge_answers(action, expected, reports)
        return reports


class Responses:
    """What one language makes, the others are given, whatever its size, status and headers; also when it is stale, because
    its next render failed. A render that fails keeps nobody waiting."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.languages = list(fleet.workers)
        self.wrong: list[str] = []

    async def judge(self) -> list[str]:
        """What is wrong with it."""
        made = {
            by: [self._question(name, by, **page) for name, page in RESPONSES.items()]
            for by in self.languages
        }
        failing = {by: [self._question(name, by, failure=name) for name in FAILURES] for by in self.languages}
        await self._show(
            {by: made[by] + failing[by] for by in self.languages},
            lambda page: _failed(page) if page["failure"] else _shown(page, "render"),
        )
        await self._show(
            {by: self._of_others(made, by) + self._of_others(failing, by) for by in self.languages},
            lambda page: {"event": "backing_off"} if page["failure"] else _shown(page, "hit"),
        )
        token = ""
        for by, worker in self.fleet.workers.items():
            [invalidated] = await worker.do({"do": "invalidate", "tag": f"made by {by}"})
            token = invalidated["token"]
        again = {
            by: [page | {"token": token, "failure": "error"} for page in made[by]] for by in self.languages
        }
        await self._show(again, _failed)
        stale = {by: [page | {"failure": ""} for page in self._of_others(again, by)] for by in self.languages}
        await self._show(stale, lambda page: _shown(page, "stale"))
        return self.wrong

    def _question(self, name: str, by: str, **page: Any) -> Question:
        """A page, as its renderer makes it. Its body is its name, as often as it takes."""
        name = f"{name}, by {by}"
        unsaid = {"size": 10, "status": 200, "content_type": "", "headers": [], "failure": "", "token": ""}
        return {"id": name, "entry": {"key": name}, "tag": f"made by {by}", **unsaid, **page}

    def _of_others(self, pages: dict[str, list[Question]], language: str) -> list[Question]:
        return [page for by in self.languages if by != language for page in pages[by]]

    async def _show(self, asked: dict[str, list[Question]], expected: Callable[[Question], Report]) -> None:
        reports = await self.fleet.do(
            {
                language: {"do": "show", "in_flight": IN_FLIGHT, "ttl_ms": 300_000, "pages": pages}
                for language, pages in asked.items()
            }
        )
        answers = {
            language: {page["id"]: expected(page) for page in pages} for language, pages in asked.items()
        }
        self.wrong += judge_answers("show", answers, reports)


def _shown(page: Question, how: str) -> Report:
    name = page["id"].encode()
    body = (name * (1 + page["size"] // len(name)))[: page["size"]]
    return {
        "event": "shown",
        "how": how,
        "size": len(body),
        "digest": hashlib.sha256(body).hexdigest(),
        "status": page["status"],
        "content_type": page["content_type"] or "text/html; charset=utf-8",
        "headers": dict(page["headers"]),
    }


def _failed(page: Question) -> Report:
    """Its renderer is told why, by its own words or by the coordinator's."""
    if page["failure"] == "refused":
        return {"event": "refused", "reason": "INVALID_FIELD", "fields": ["metadata.status"]}
    return {"event": "failed", "error": f"no {page['id']} today"}


def _entry(page: Question, deployment: str, **name: Any) -> dict[str, Any]:
    """The contract's EntryRef as JSON."""
    return {"tenant": page.get("tenant", ""), "deployment": deployment, **name}


def _committed(pages: list[Question]) -> dict[str, Report]:
    return {page["id"]: {"event": "committed", "how": "render", "html": page["html"]} for page in pages}


async def outage(fleet: Fleet, coordinator: Coordinator, seed: random.Random) -> tuple[Round, list[str]]:
    """The coordinator is killed while all are served, and started again: nobody's request fails, and nothing is rendered twice."""
    pages = [f"kept-{number:03}" for number in range(PAGES)]
    asked = {language: shuffled(pages, REQUESTS, seed) for language in fleet.workers}
    heard = Counter[str]()
    middle = asyncio.Event()

    def find_the_middle(report: Report) -> None:
        heard[report["event"]] += 1
        if heard["served"] == KILLED_AFTER:
            middle.set()

    async def kill_in_the_middle() -> float:
        await middle.wait()
        await coordinator.kill_and_restart()
        return time.monotonic()

    try:
        # Where a worker fails, the coordinator is not started again.
        async with asyncio.TaskGroup() as group:
            back = group.create_task(kill_in_the_middle())
            doing = {
                language: group.create_task(fleet.workers[language].do(serving(keys), find_the_middle))
                for language, keys in asked.items()
            }
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    reports = {language: task.result() for language, task in doing.items()}
    told = Round("coordinator killed", asked, reports, back_at=back.result())
    return told, judge_round(told)


async def killing(fleet: Fleet, victim: str, seed: random.Random) -> tuple[Round, list[str]]:
    """One is killed while it serves and renders, with leases in its hands: the others go on."""
    pages = [f"left-{number:03}" for number in range(PAGES)]
    held, others = pages[:HELD], pages[HELD:]
    worker = fleet.workers[victim]
    asked_at = time.monotonic()
    holding = await worker.do({"do": "hold", "keys": held, "ttl_ms": HELD_MS, "in_flight": HELD})
    granted_by = time.monotonic()
    granted = {report["key"]: report["generation"] for report in holding if report["event"] == "holding"}
    if set(granted) != set(held):
        raise Broken(f"{victim} was not granted what nobody else had asked for: {holding}")
    heard = Counter[str]()

    def kill_in_the_middle(report: Report) -> None:
        heard[report["event"]] += 1
        if heard["served"] == KILLED_AFTER and not worker.is_killed:
            worker.kill()

    asked = {
        language: shuffled(others if language == victim else pages, REQUESTS, seed)
        for language in fleet.workers
    }
    reports = await asyncio.gather(
        *(
            fleet.workers[language].do(
                serving(keys, ttl_ms=HELD_MS), kill_in_the_middle if language == victim else lambda _: None
            )
            for language, keys in asked.items()
        )
    )
    killed = Killed(victim, granted, HELD_MS / 1000, asked_at, granted_by)
    told = Round(f"{victim} killed", asked, dict(zip(asked, reports, strict=True)), killed=killed)
    return told, judge_round(told)


async def rolling(fleet: Fleet, nodes: Nodes, seed: random.Random) -> tuple[list[Round], list[str]]:
    """Two coordinators are told to stop and started again in turn, while all are served: nobody's request fails, nothing is
    rendered twice, each stop is in time, and watches go on on the other one."""
    watching = [language for language in fleet.workers if language in WATCHING]
    await fleet.do({language: {"do": "watch"} for language in watching})
    rounds: list[Round] = []
    async with asyncio.TaskGroup() as group:
        rolls = group.create_task(nodes.roll(ROLLS))
        while not rolls.done() or not rounds:
            name = f"rolling, {len(rounds)}"
            pages = [f"{name}: {number:03}" for number in range(PAGES)]
            rounds.append(await fleet.serve(name, pages, REQUESTS_AFTER_AN_INVALIDATION, seed))
    last = "all is quiet"
    [first, *_] = fleet.workers.values()
    await first.do({"do": "invalidate", "tag": last})
    heard = await fleet.do({language: {"do": "watched", "tag": last} for language in watching})
    wrong = [what for told in rounds for what in judge_round(told)]
    wrong += judge_rolls(rolls.result(), STOP_SECONDS)
    wrong += judge_watches([roll["tag"] for roll in rolls.result()], last, heard)
    stops = ", ".join(f"{roll['seconds']:.1f}" for roll in rolls.result())
    resyncs = {language: said[0]["resyncs"] for language, said in heard.items() if said}
    print(f"stopped in {stops} s; resyncs of watches: {resyncs}")
    return rounds, wrong


async def run(arguments: argparse.Namespace, folder: Path) -> int:
    # An end from outside is an end of everything, too.
    this = asyncio.current_task()
    assert this
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    begun = time.monotonic()
    seed = random.Random(arguments.seed)
    table = json.loads((Path(__file__).parent / "requests.json").read_text(encoding="utf-8"))
    started: list[Process] = []
    try:
        async with asyncio.timeout(ALL_SECONDS):
            access = Access(arguments.access) if arguments.access else None
            coordinator = Coordinator(arguments.coordinator, folder, started, access)
            await coordinator.start()
            workers = dict(arguments.worker)
            environment = access.environment if access else {}
            fleet = await start_fleet(workers, coordinator.url, environment, folder, started)
            print(f"started in {time.monotonic() - begun:.1f} s")
            rounds, wrong = await timed("pages and invalidations", pages_and_invalidations(fleet, seed))
            more = await timed("keys from requests", Keys(fleet, table).judge())
            more += await timed("responses and failures", Responses(fleet).judge())
            restarted, again = await timed("coordinator killed", outage(fleet, coordinator, seed))
            told, last = await timed(f"{arguments.victim} killed", killing(fleet, arguments.victim, seed))
            for language, worker in fleet.workers.items():
                if language != arguments.victim:
                    await worker.leave()
            await coordinator.stop()
            rolled: list[Round] = []
            if arguments.nodes:
                nodes = await Nodes.start_on(arguments.nodes, arguments.coordinator, folder, started)
                fleet = await start_fleet(workers, nodes.url, {}, folder, started)
                rolled, unrolled = await timed("coordinators stopped in turn", rolling(fleet, nodes, seed))
                last += unrolled
                for worker in fleet.workers.values():
                    await worker.leave()
                await nodes.leave()
    except Broken as broken:
        print(f"broken: {broken}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"broken: it took longer than {ALL_SECONDS:.0f} s", file=sys.stderr)
        return 1
    finally:
        for process in reversed(started):
            await process.end()
    show("pages and invalidations", rounds)
    show("coordinator killed", [restarted])
    show(told.name, [told])
    if rolled:
        show("coordinators stopped in turn", rolled)
    requests = sum(len(page["requests"]) for page in table["pages"])
    print(
        f"\n{len(table['pages'])} keys by {requests} requests and {len(table['refusals'])} refusals from each language"
    )
    print(
        f"{len(RESPONSES)} responses and {len(FAILURES)} failed renders by each language, shown to all others"
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{time.monotonic() - begun:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU time in all processes"
    )
    wrong = [*wrong, *more, *again, *last]
    for what in wrong[:40]:
        print(f"wrong: {what}", file=sys.stderr)
    if wrong:
        print(f"{len(wrong)} deviations", file=sys.stderr)
    return 1 if wrong else 0


async def timed(name: str, part: Any) -> Any:
    begun = time.monotonic()
    result = await part
    print(f"{name}: {time.monotonic() - begun:.1f} s", flush=True)
    return result


async def start_fleet(
    commands: dict[str, str], url: str, environment: dict[str, str], folder: Path, started: list[Process]
) -> Fleet:
    workers = {}
    for language, command in commands.items():
        worker = await Worker.start(language, [*shlex.split(command), url], folder, environment)
        assert isinstance(worker, Worker)
        started.append(worker)
        workers[language] = worker
    try:
        await asyncio.gather(*(worker.ready() for worker in workers.values()))
    except TimeoutError:
        raise Broken("a worker is not ready in time") from None
    return Fleet(workers)


def show(name: str, rounds: list[Round]) -> None:
    counts = tally(rounds)
    columns = ("requests", "render", "wait", "hit")
    print(f"\n{name:<28}" + "".join(f"{column:>10}" for column in columns))
    for language in [*counts, "all"]:
        row = counts[language] if language != "all" else sum(counts.values(), Counter[str]())
        print(f"  {language:<26}" + "".join(f"{row[column]:>10}" for column in columns))


def worker_of(text: str) -> tuple[str, str]:
    language, _, command = text.partition("=")
    if language not in LANGUAGES or not command:
        raise argparse.ArgumentTypeError(f"{text!r} is not LANGUAGE=COMMAND")
    return language, command


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--coordinator")
    parser.add_argument(
        "--access", type=Path, help="a folder: the first coordinator speaks TLS, and asks for a token"
    )
    parser.add_argument("--nodes", help="the program of two coordinators; without it they are not rolled")
    parser.add_argument("--worker", type=worker_of, action="append", default=[])
    parser.add_argument("--victim", choices=LANGUAGES, default="go")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.self_test:
        missed = self_test()
        for what in missed:
            print(what, file=sys.stderr)
        return 1 if missed else 0
    if not arguments.coordinator or len(dict(arguments.worker)) < 2:
        parser.error("a coordinator and at least two workers are needed")
    if arguments.victim not in dict(arguments.worker):
        arguments.victim = arguments.worker[0][0]
    try:
        with tempfile.TemporaryDirectory(prefix="leasehold-interop-") as folder:
            return asyncio.run(run(arguments, Path(folder)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended from outside", file=sys.stderr)
        return 130


sys.exit(main())
