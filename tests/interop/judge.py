"""What five workers reported, judged: each rule of the interop test, and nothing that starts or talks to a process."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LANGUAGES = ("rust", "typescript", "python", "go", "java")

Report = dict[str, Any]
"""A line that a worker said, with the time ``at`` which it was heard, in seconds of the driver's clock."""

PAGE = re.compile(
    r'<!doctype html><h1 data-generation="(?P<generation>\d+)" data-render="(?P<render>(?P<by>[a-z]+)-\d+)" '
    r'data-sidecar="(?P<sidecar>[^"]+)">(?P<key>[^<]+)</h1>'
)

RENDERED_WITHIN_SECONDS = 15.0
"""Of the end of a dead worker's lease: for the grant and the render, on a machine that is busy with other things."""


@dataclass
class Killed:
    """A worker that is killed while it serves, and holds leases that it was told never to use."""

    language: str
    held: dict[str, int]
    """Keys, with the generations that it was granted."""
    ttl_seconds: float
    asked_at: float
    """When it was told to acquire these leases: they were not granted before."""
    granted_by: float
    """When it had said that they were granted."""


@dataclass
class Round:
    """The same keys, asked of all workers at once, and what they said."""

    name: str
    asked: dict[str, list[str]]
    reports: dict[str, list[Report]]
    before: dict[str, int] = field(default_factory=dict)
    """The generation of each key that was current before an invalidation of all."""
    killed: Killed | None = None
    back_at: float | None = None
    """When a coordinator that was killed meanwhile was there again."""


def judge_round(told: Round) -> list[str]:
    """What is wrong with it."""
    wrong = [*_answers(told), *_bodies(told), *_renders(told), *_generations(told)]
    if told.killed:
        wrong += _takeover(told, told.killed)
    if told.back_at is not None:
        wrong += _outage(told, told.back_at)
    return [f"{told.name}: {what}" for what in wrong]


def _answers(told: Round) -> list[str]:
    wrong = []
    for language, keys in told.asked.items():
        reports = told.reports[language]
        for report in reports:
            if report["event"] == "failed":
                wrong.append(f"{language} could not serve {report['key']}: {report['why']}")
            if report["event"] == "served" and report["how"] not in ("render", "wait", "hit"):
                wrong.append(f"{language} was given {report['key']} as {report['how']}")
            # A lease that is short enough to be waited for may be too short for a render on a busy machine.
            if report["event"] == "overtaken" and not told.killed:
                wrong.append(f"{language} was overtaken while it rendered {report['key']}")
        served = Counter(report["key"] for report in _of(reports, "served"))
        if told.killed and language == told.killed.language:
            if not served or not served < Counter(keys):
                wrong.append(
                    f"{language} was not killed in the middle: {served.total()} of {len(keys)} served"
                )
        elif served != Counter(keys):
            wrong.append(f"{language} served {served.total()} of {len(keys)} requests")
    return wrong


def _bodies(told: Round) -> list[str]:
    wrong = []
    first: dict[tuple[str, int], tuple[str, str, str]] = {}
    for language, report in _all(told, "served"):
        key, generation = report["key"], report["generation"]
        what = f"{language}, {key}, generation {generation}"
        page = PAGE.fullmatch(report["html"])
        if page is None:
            wrong.append(f"{what}: not a page: {report['html']!r}")
            continue
        if (page["key"], int(page["generation"])) != (key, generation):
            wrong.append(f"{what}: the HTML of {page['key']}, generation {page['generation']}")
        if page["sidecar"] != report["sidecar_token"]:
            wrong.append(f"{what}: the HTML names another sidecar than the coordinator")
        if not _is_sidecar_of(page, report["sidecar"]):
            wrong.append(f"{what}: the sidecar of another page: {report['sidecar']!r}")
        seen_by, html, sidecar = first.setdefault(
            (key, generation), (language, report["html"], report["sidecar"])
        )
        if html != report["html"]:
            wrong.append(f"{what}: other HTML than {seen_by} saw")
        if sidecar != report["sidecar"]:
            wrong.append(f"{what}: another sidecar than {seen_by} saw")
    return wrong


def _is_sidecar_of(page: re.Match[str], text: str) -> bool:
    try:
        sidecar = json.loads(text)
    except ValueError:
        return False
    return bool(
        sidecar == {"key": page["key"], "generation": int(page["generation"]), "render": page["render"]}
    )


def _renders(told: Round) -> list[str]:
    wrong = []
    renders: dict[tuple[str, int], list[str]] = defaultdict(list)
    for language, report in _all(told, "rendered"):
        renders[report["key"], report["generation"]].append(report["render"])
        if not report["render"].startswith(f"{language}-"):
            wrong.append(f"{language} reports a render of {report['render']}")
    for (key, generation), names in renders.items():
        if len(names) > 1:
            wrong.append(
                f"{key}, generation {generation}, was rendered {len(names)} times: {', '.join(names)}"
            )
    by_key = Counter(key for key, _ in renders)
    for key, times in by_key.items():
        if times > 1:
            wrong.append(f"{key} was rendered for {times} generations")
    for language, report in _all(told, "served"):
        page = PAGE.fullmatch(report["html"])
        if page is None:
            continue
        names = renders.get((report["key"], report["generation"]), [])
        # What was committed a moment before its renderer was killed, nobody has reported.
        unheard = told.killed is not None and page["by"] == told.killed.language and not names
        if page["render"] not in names and not unheard:
            wrong.append(
                f"{language} was given {page['render']} of {report['key']}, a render that nobody reports"
            )
        if report["how"] == "render" and page["by"] != language:
            wrong.append(f"{language} says that it rendered {page['render']}")
    for language in told.asked:
        said = len(_of(told.reports[language], "rendered"))
        served = sum(report["how"] == "render" for report in _of(told.reports[language], "served"))
        is_killed = told.killed is not None and language == told.killed.language
        if served > said or (served < said and not is_killed):
            wrong.append(f"{language} reports {said} renders, and served {served}")
    return wrong


def _generations(told: Round) -> list[str]:
    wrong = []
    seen: dict[str, set[int]] = defaultdict(set)
    for _, report in _all(told, "served"):
        seen[report["key"]].add(report["generation"])
    for key in {key for keys in told.asked.values() for key in keys}:
        generations = seen.get(key, set())
        if len(generations) != 1:
            wrong.append(f"{key} was seen in {len(generations)} generations: {sorted(generations)}")
        if generations and min(generations) <= told.before.get(key, 0):
            wrong.append(f"{key} was served in generation {min(generations)}, which was invalidated before")
    return wrong


def _takeover(told: Round, killed: Killed) -> list[str]:
    wrong = []
    rendered = {report["key"]: (language, report) for language, report in _all(told, "rendered")}
    for key, generation in killed.held.items():
        if key not in rendered:
            wrong.append(f"{key}, which {killed.language} held, was not rendered by another")
            continue
        language, report = rendered[key]
        if language == killed.language or report["generation"] <= generation:
            wrong.append(
                f"{key}, which {killed.language} held, was rendered as generation {report['generation']}"
            )
        if report["at"] < killed.asked_at + killed.ttl_seconds:
            wrong.append(f"{key} was rendered by {language} before the lease of {killed.language} was over")
        if report["at"] > killed.granted_by + killed.ttl_seconds + RENDERED_WITHIN_SECONDS:
            wrong.append(
                f"{key} was rendered by {language} long after the lease of {killed.language} was over"
            )
    return wrong


def _outage(told: Round, back_at: float) -> list[str]:
    return [
        f"{language} served nothing after the coordinator was back: it was not put to the test"
        for language in told.asked
        if not any(report["at"] > back_at for report in _of(told.reports[language], "served"))
    ]


def generations(told: Round) -> dict[str, int]:
    """The newest generation of each key that was served."""
    newest: dict[str, int] = {}
    for _, report in _all(told, "served"):
        newest[report["key"]] = max(report["generation"], newest.get(report["key"], 0))
    return newest


def tally(rounds: list[Round]) -> dict[str, Counter[str]]:
    """Requests, renders, waits and hits of each language."""
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    for told in rounds:
        for language, report in _all(told, "served"):
            tallies[language]["requests"] += 1
            tallies[language][report["how"]] += 1
    return tallies


def judge_tally(tallies: dict[str, Counter[str]], languages: Iterable[str]) -> list[str]:
    """Whether each language was put to the test at all: it rendered, waited for others, and was given what was there."""
    return [
        f"{language}: no {how} in {tallies[language]['requests']} requests"
        for language in languages
        for how in ("render", "wait", "hit")
        if not tallies[language][how]
    ]


def judge_rolls(rolls: list[Report], longest_seconds: float) -> list[str]:
    """Whether each coordinator that was told to stop did so, in time and in order."""
    return [
        f"told to stop, a coordinator ended with {roll['status']} after {roll['seconds']:.1f} s"
        for roll in rolls
        if roll["status"] != 0 or roll["seconds"] > longest_seconds
    ]


def judge_watches(tags: list[str], last: str, reports: dict[str, list[Report]]) -> list[str]:
    """Whether each watch has told of every invalidation of these, and of one that came last, when all was quiet, once; or has
    said that it missed something."""
    wrong = []
    for language, said in reports.items():
        if [report["event"] for report in said] != ["watched"]:
            wrong.append(f"{language} did not watch: {said}")
            continue
        told, resyncs = Counter(said[0]["tags"]), said[0]["resyncs"]
        for tag in [*tags, last]:
            may_be_missed = resyncs > 0 and tag != last
            if told[tag] > 1 or (told[tag] == 0 and not may_be_missed):
                wrong.append(f"{language} was told of {tag!r} {told[tag]} times, with {resyncs} resyncs")
    return wrong


Answers = dict[str, dict[str, Report]]
"""By language and by the name of the question: what the report of it must say."""


def judge_answers(name: str, expected: Answers, reports: dict[str, list[Report]]) -> list[str]:
    """Whether each question was answered once, and as it must be."""
    wrong = []
    for language, answers in expected.items():
        given: dict[str, list[Report]] = defaultdict(list)
        for report in reports[language]:
            if "id" in report:
                given[report["id"]].append(report)
        for question, answer in answers.items():
            got = [{name: report.get(name) for name in answer} for report in given[question]]
            if got != [answer]:
                why = "; ".join(report.get("why", "") for report in given[question])
                wrong.append(f"{name}: {language}, {question}: {got}, not {answer} {why}".rstrip())
        wrong += [
            f"{name}: {language} answers {question}, unasked" for question in given.keys() - answers.keys()
        ]
    return wrong


def _of(reports: list[Report], event: str) -> list[Report]:
    return [report for report in reports if report["event"] == event]


def _all(told: Round, event: str) -> list[tuple[str, Report]]:
    return [(language, report) for language in told.asked for report in _of(told.reports[language], event)]
