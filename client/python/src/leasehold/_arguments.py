"""What is of the wrong type is refused here, by its name. Its value does not show, for it may be a visitor's secret."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from numbers import Real
from typing import NoReturn, TypeVar

from leasehold.errors import InvalidArgument

T = TypeVar("T")


def refuse(field: str, wanted: str, given: object) -> NoReturn:
    """``wanted`` says what it must do: "be text"."""
    raise InvalidArgument(field, f"must {wanted}, and not {_kind(given)}")


def of(field: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        refuse(field, f"be {' or '.join(allowed.__name__ for allowed in kinds)}", value)


def text(field: str, value: object) -> None:
    if not isinstance(value, str):
        refuse(field, "be text", value)


def number(field: str, value: object, wanted: str) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        refuse(field, f"be {wanted}", value)


def seconds(field: str, value: object) -> None:
    number(field, value, "a number of seconds")


def optional_seconds(field: str, value: object) -> None:
    if value is not None:
        seconds(field, value)


def texts(field: str, value: Iterable[str]) -> tuple[str, ...]:
    """Of any sequence or set of them. One text is none: it would be taken for its letters."""
    wanted = 'be a sequence of texts, such as ("docs",)'
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        refuse(field, wanted, value)
    found = tuple(value)
    for one in found:
        if not isinstance(one, str):
            refuse(field, f"{wanted}: one of them must be text", one)
    return found


def pairs(field: str, value: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    wanted = 'be a sequence of pairs of texts, such as (("name", "value"),)'
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        refuse(field, wanted, value)
    found: list[tuple[str, str]] = []
    for pair in value:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            refuse(field, f"{wanted}: one of them must be a pair", pair)
        name, of_name = pair
        for part in (name, of_name):
            if not isinstance(part, str):
                refuse(field, f"{wanted}: both of a pair must be text", part)
        found.append((name, of_name))
    return tuple(found)


def named_texts(field: str, value: object) -> None:
    wanted = 'be a mapping of texts, such as {"name": "value"}'
    if not isinstance(value, Mapping):
        refuse(field, wanted, value)
    for part in (*value.keys(), *value.values()):
        if not isinstance(part, str):
            refuse(field, wanted, part)


def named_values(field: str, value: object) -> None:
    """One text is no sequence of values: it would be taken for its letters."""
    wanted = 'be a mapping to sequences of texts, such as {"name": ["value"]}'
    if not isinstance(value, Mapping):
        refuse(field, wanted, value)
    for name, values in value.items():
        if not isinstance(name, str):
            refuse(field, f"{wanted}: each name must be text", name)
        if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
            refuse(field, f"{wanted}: the values of a name must be a sequence", values)
        for one in values:
            if not isinstance(one, str):
                refuse(field, f"{wanted}: each value must be text", one)


def awaited(field: str, answer: Awaitable[T]) -> Awaitable[T]:
    """What was called is to be waited for."""
    if not inspect.isawaitable(answer):
        raise InvalidArgument(field, f"must be async, and not answer {_kind(answer)} at once")
    return answer


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
