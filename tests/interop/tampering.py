"""Shows that the judge notices: reports that are right are right, and each kind of deviation is complained of."""

import copy
import json
from collections import Counter
from collections.abc import Callable

from judge import (
    LANGUAGES,
    Answers,
    Killed,
    Report,
    Round,
    judge_answers,
    judge_rolls,
    judge_round,
    judge_tally,
    judge_watches,
    tally,
)

KEYS = [f"page-{number}" for number in range(5)]


def served(key: str, generation: int, by: str, how: str, at: float) -> Report:
    render = f"{by}-{1 + KEYS.index(key)}"
    token = f"token-{key}-{generation}"
    return {
        "event": "served",
        "key": key,
        "how": how,
        "generation": generation,
        "html": f'<!doctype html><h1 data-generation="{generation}" data-render="{render}" data-sidecar="{token}">{key}</h1>',
        "sidecar": json.dumps({"key": key, "generation": generation, "render": render}),
        "sidecar_token": token,
        "at": at,
    }


def good_round() -> Round:
    """Each language renders one page, waits for another, and finds the rest."""
    reports: dict[str, list[Report]] = {}
    for number, language in enumerate(LANGUAGES):
        said = []
        for position, (key, by) in enumerate(zip(KEYS, LANGUAGES, strict=True)):
            how = "render" if by == language else "wait" if position == (number + 1) % 5 else "hit"
            answer = served(key, 12, by, how, 1.0)
            if how == "render":
                render = f"{by}-{1 + position}"
                said.append({"event": "rendered", "key": key, "generation": 12, "render": render, "at": 1.0})
            said.append(answer)
        reports[language] = said
    before = dict.fromkeys(KEYS, 11)
    return Round("a round", {language: list(KEYS) for language in LANGUAGES}, reports, before)


def good_killing() -> Round:
    """Go is killed when it has served one page; the page that it held is rendered by Java, when its lease is over."""
    told = good_round()
    told.name, told.before = "a killing", {}
    told.reports["go"] = [served("page-3", 12, "go", "render", 0.5)]
    for language in LANGUAGES:
        for report in told.reports[language]:
            if report["key"] == "page-4":
                report["at"] = 4.0
    told.killed = Killed("go", {"page-4": 11}, ttl_seconds=3.0, asked_at=0.5, granted_by=0.6)
    # Its commit was applied, and it did not live to say so.
    assert not any(report["event"] == "rendered" for report in told.reports["go"])
    told.reports["go"] = [served("page-0", 12, "rust", "hit", 0.5)]
    return told


def good_outage() -> Round:
    """The coordinator was back before anybody was done."""
    told = good_round()
    told.back_at = 0.5
    return told


ANSWERS: Answers = {
    language: {
        "a page": {"event": "found", "html": "x"},
        "no page": {"event": "refused", "reason": "INVALID_FIELD", "fields": ["entry.key"]},
    }
    for language in LANGUAGES
}


def good_answers() -> dict[str, list[Report]]:
    return {
        language: [{"id": name, **answer} for name, answer in ANSWERS[language].items()]
        for language in LANGUAGES
    }


def find(told: Round, language: str, event: str, key: str) -> Report:
    return next(
        report for report in told.reports[language] if (report["event"], report["key"]) == (event, key)
    )


def drop(told: Round, language: str, event: str, key: str) -> None:
    told.reports[language].remove(find(told, language, event, key))


def drop_everywhere(told: Round, key: str) -> None:
    for language in LANGUAGES:
        drop(told, language, "served", key)


def rename(told: Round, old: str, new: str) -> None:
    """In the bodies of java's answer of page-0."""
    answer = find(told, "java", "served", "page-0")
    answer["html"] = answer["html"].replace(old, new)
    answer["sidecar"] = answer["sidecar"].replace(old, new)


def put(report: Report, **changes: object) -> None:
    report.update(changes)


def generation(told: Round, number: int) -> None:
    """Page-0 as another generation, to everybody."""
    for reports in told.reports.values():
        for position, report in enumerate(reports):
            if report["key"] == "page-0" and report["event"] == "served":
                reports[position] = served("page-0", number, "rust", report["how"], 1.0)
    find(told, "rust", "rendered", "page-0")["generation"] = number


Tampering = tuple[str, str, Callable[[Round], object]]
"""What was done, what must be complained of, and how it is done."""

IN_A_ROUND: list[Tampering] = [
    ("an answer is missing", "python served 4 of 5", lambda r: drop(r, "python", "served", "page-1")),
    (
        "an answer too many",
        "go served 6 of 5",
        lambda r: r.reports["go"].append(find(r, "go", "served", "page-0")),
    ),
    (
        "a request failed",
        "could not serve",
        lambda r: r.reports["go"].append({"event": "failed", "key": "page-0", "why": "x"}),
    ),
    ("a stale page", "page-0 as stale", lambda r: put(find(r, "go", "served", "page-0"), how="stale")),
    (
        "a render came too late",
        "was overtaken",
        lambda r: r.reports["go"].append({"event": "overtaken", "key": "page-0"}),
    ),
    ("other bytes", "not a page", lambda r: put(find(r, "java", "served", "page-0"), html="<h1>page-0</h1>")),
    ("bytes of another render", "other HTML than rust saw", lambda r: rename(r, "rust-1", "rust-7")),
    ("a sidecar of another render", "another sidecar than rust saw", lambda r: rename(r, "rust-1", "rust-7")),
    ("a render that nobody made", "a render that nobody reports", lambda r: rename(r, "rust-1", "rust-7")),
    ("HTML of another generation", "the HTML of page-0, generation 11", lambda r: rename(r, "12", "11")),
    (
        "the sidecar of the generation before",
        "the sidecar of another page",
        lambda r: put(
            find(r, "java", "served", "page-0"), sidecar=served("page-0", 11, "rust", "hit", 1.0)["sidecar"]
        ),
    ),
    (
        "no sidecar",
        "the sidecar of another page",
        lambda r: put(find(r, "java", "served", "page-0"), sidecar=""),
    ),
    (
        "the token of another",
        "names another sidecar",
        lambda r: put(find(r, "java", "served", "page-0"), sidecar_token="t"),
    ),
    (
        "a second render",
        "was rendered 2 times: rust-1, go-9",
        lambda r: r.reports["go"].append(
            {"event": "rendered", "key": "page-0", "generation": 12, "render": "go-9"}
        ),
    ),
    (
        "a render for another generation",
        "page-0 was rendered for 2 generations",
        lambda r: r.reports["go"].append(
            {"event": "rendered", "key": "page-0", "generation": 13, "render": "go-9"}
        ),
    ),
    (
        "a render that was not reported",
        "a render that nobody reports",
        lambda r: drop(r, "rust", "rendered", "page-0"),
    ),
    (
        "a render under another's name",
        "rust reports a render of go-1",
        lambda r: put(find(r, "rust", "rendered", "page-0"), render="go-1"),
    ),
    (
        "the render of another, claimed",
        "go says that it rendered rust-1",
        lambda r: put(find(r, "go", "served", "page-0"), how="render"),
    ),
    (
        "a render that was not served",
        "rust reports 1 renders, and served 0",
        lambda r: put(find(r, "rust", "served", "page-0"), how="hit"),
    ),
    (
        "an older generation, to one",
        "page-0 was seen in 2 generations: [11, 12]",
        lambda r: put(find(r, "java", "served", "page-0"), **served("page-0", 11, "rust", "hit", 1.0)),
    ),
    (
        "the old generation, to all",
        "page-0 was served in generation 11, which was invalidated",
        lambda r: generation(r, 11),
    ),
    (
        "a page that nobody was served",
        "page-2 was seen in 0",
        lambda r: drop_everywhere(r, "page-2"),
    ),
]

AFTER_A_KILLING: list[Tampering] = [
    (
        "it was done already",
        "was not killed in the middle",
        lambda r: r.reports["go"].extend(served(key, 12, "rust", "hit", 1.0) for key in KEYS[1:]),
    ),
    ("it had not begun", "was not killed in the middle", lambda r: r.reports["go"].clear()),
    ("another did not go on", "java served 4 of 5", lambda r: drop(r, "java", "served", "page-1")),
    (
        "a page was rendered twice",
        "rendered for 2 generations",
        lambda r: r.reports["rust"].append(
            {"event": "rendered", "key": "page-4", "generation": 13, "render": "rust-9", "at": 4.0}
        ),
    ),
    (
        "nobody rendered what it held",
        "was not rendered by another",
        lambda r: drop(r, "java", "rendered", "page-4"),
    ),
    (
        "rendered too early",
        "before the lease of go was over",
        lambda r: put(find(r, "java", "rendered", "page-4"), at=3.4),
    ),
    (
        "rendered too late",
        "long after the lease of go was over",
        lambda r: put(find(r, "java", "rendered", "page-4"), at=19.0),
    ),
    (
        "the generation that it held",
        "was rendered as generation 11",
        lambda r: put(find(r, "java", "rendered", "page-4"), generation=11),
    ),
    (
        "an unreported render of one that lives",
        "a render that nobody reports",
        lambda r: drop(r, "rust", "rendered", "page-0"),
    ),
]

IN_AN_OUTAGE: list[Tampering] = [
    ("all were done before", "rust served nothing after", lambda r: setattr(r, "back_at", 1.5)),
    (
        "a call failed",
        "could not serve",
        lambda r: r.reports["go"].append({"event": "failed", "key": "page-0", "why": "x"}),
    ),
]

IN_ANSWERS: list[tuple[str, str, Callable[[dict[str, list[Report]]], object]]] = [
    (
        "another page",
        "rust, a page: [{'event': 'found', 'html': 'y'}]",
        lambda r: put(r["rust"][0], html="y"),
    ),
    ("no page", "go, a page: [{'event': 'found', 'html': ''}]", lambda r: put(r["go"][0], html="")),
    ("no answer", "java, a page: []", lambda r: r["java"].pop(0)),
    ("two answers", "java, a page: [{", lambda r: r["java"].append(r["java"][0])),
    ("a page where there must be none", "python, no page", lambda r: put(r["python"][1], event="found")),
    ("another reason", "python, no page", lambda r: put(r["python"][1], reason="UNSTATED")),
    ("another field", "typescript, no page", lambda r: put(r["typescript"][1], fields=["entry"])),
    ("unasked", "go answers b, unasked", lambda r: r["go"].append({"event": "found", "id": "b"})),
]


WATCHES: list[tuple[str, list[Report], bool]] = [
    ("all", [{"event": "watched", "tags": ["one", "other", "two", "end"], "resyncs": 0}], True),
    ("a gap that it told", [{"event": "watched", "tags": ["two", "end"], "resyncs": 1}], True),
    ("a gap", [{"event": "watched", "tags": ["two", "end"], "resyncs": 0}], False),
    ("a repetition", [{"event": "watched", "tags": ["one", "one", "two", "end"], "resyncs": 1}], False),
    ("not the last one", [{"event": "watched", "tags": ["one", "two"], "resyncs": 1}], False),
    ("nothing", [], False),
]
ROLLS: list[tuple[str, Report, bool]] = [
    ("as it must", {"status": 0, "seconds": 3.0}, True),
    ("late", {"status": 0, "seconds": 21.5}, False),
    ("badly", {"status": 1, "seconds": 0.1}, False),
    ("killed", {"status": None, "seconds": 0.1}, False),
]


def self_test() -> list[str]:
    """What the judge does not notice, or complains of without a reason."""
    missed = []
    rounds = ((good_round, IN_A_ROUND), (good_killing, AFTER_A_KILLING), (good_outage, IN_AN_OUTAGE))
    for good, tamperings in rounds:
        missed += [f"a complaint without a reason: {what}" for what in judge_round(good())]
        for name, expected, tamper in tamperings:
            told = copy.deepcopy(good())
            tamper(told)
            if not any(expected in what for what in judge_round(told)):
                missed.append(f"not noticed: {name}: {judge_round(told)}")
    missed += [
        f"a complaint without a reason: {what}" for what in judge_answers("a table", ANSWERS, good_answers())
    ]
    for name, expected, alter in IN_ANSWERS:
        answers = good_answers()
        alter(answers)
        if not any(expected in what for what in judge_answers("a table", ANSWERS, answers)):
            missed.append(f"not noticed: {name}: {judge_answers('a table', ANSWERS, answers)}")
    for name, said, is_right in WATCHES:
        if (judge_watches(["one", "two"], "end", {"go": said}) == []) != is_right:
            missed.append(f"misjudged: a watch that told {name}")
    for name, roll, is_right in ROLLS:
        if (judge_rolls([roll], 21.0) == []) != is_right:
            missed.append(f"misjudged: a stop {name}")
    tallies = tally([good_round()])
    missed += [f"a complaint without a reason: {what}" for what in judge_tally(tallies, LANGUAGES)]
    for how in ("render", "wait", "hit"):
        fewer = {language: Counter(counts) for language, counts in tallies.items()}
        del fewer["java"][how]
        if judge_tally(fewer, LANGUAGES) != [f"java: no {how} in 5 requests"]:
            missed.append(f"not noticed: no {how} in a language")
    return missed
