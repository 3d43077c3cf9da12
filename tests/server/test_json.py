"""JSON answers have the bytes that the standard library writes, whoever writes them. Rule: `conventions.json-answers`."""

from __future__ import annotations

import enum
import json
import math
import random
import string
from typing import Any

import pytest

from workyard.wire.responses import JsonResponse

pytestmark = pytest.mark.no_redis

_standard = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode
_ALPHABETS = (
    string.ascii_letters + string.digits,
    string.printable + "\0\x1f\x7f\x80\x85\u2028\u2029\ufeff\ufffd\uffff",
    "äßçñ 漢字 кирилица 😀👩‍👩‍👧\U0010ffff",
    '"\\/\b\f\n\r\te5,]}0.0000',
    "a\ud800\udfff\udc80",
)


class Word(enum.StrEnum):
    """A word of ours."""

    A = "a"


def written(value: Any) -> bytes:
    """Return a value as it was written before msgspec came."""
    return _standard(value).encode("utf-8", "replace")


def text(dice: random.Random) -> str:
    """Return some characters of one alphabet."""
    return "".join(dice.choices(dice.choice(_ALPHABETS), k=dice.choice((0, 1, 3, 12, 60))))


def number(dice: random.Random) -> int | float:
    """Return a number of any size, often one at which a form of writing ends."""
    match dice.randrange(6):
        case 0:
            return dice.choice((0, 1, -1, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**40))
        case 1:
            return dice.randrange(-(10**6), 10**6)
        case 2:
            return dice.choice(
                (0.0, -0.0, 0.1, 1e-4, 9.999e-5, 1e-5, 1e-7, 5e-324, 1e15, 1e16, 1e17, 1e22, 1e23, 1.7e308)
            )
        case 3:
            return dice.uniform(-1, 1) * 10.0 ** dice.randrange(-320, 300)
        case 4:
            return math.nextafter(dice.choice((1e-4, 1e-5, 1e16, 1.0)), dice.choice((0.0, math.inf)))
        case _:
            return dice.randrange(10**9) / 1000


def value(dice: random.Random, levels: int = 5) -> Any:
    """Return a JSON value of at most so many levels."""
    match dice.randrange(8 if levels else 5):
        case 0:
            return dice.choice((None, True, False))
        case 1 | 2:
            return text(dice)
        case 3 | 4:
            return number(dice)
        case 5:
            return [value(dice, levels - 1) for _ in range(dice.randrange(5))]
        case _:
            return {text(dice): value(dice, levels - 1) for _ in range(dice.randrange(6))}


@pytest.mark.parametrize("seed", range(20))
def test_any_json_value_has_the_bytes_of_the_standard_library(seed: int) -> None:
    """Six thousand values in all: texts of every kind, numbers of every size, nested."""
    dice = random.Random(seed)
    for _ in range(300):
        made = value(dice)
        assert bytes(JsonResponse(made).body) == written(made), made


@pytest.mark.parametrize("exponent", range(-324, 309))
def test_a_number_of_any_exponent_has_them_too(exponent: int) -> None:
    """Alone, as a member and in a list; round and with all its digits."""
    for digits in ("1", "1.5", "9.999999999999999", "1.2345678901234567"):
        each = float(f"{digits}e{exponent}")
        if math.isinf(each):
            continue
        for made in (each, -each, {"a": each}, {"a": each, "b": 1}, [each], [1, -each, "x"]):
            assert bytes(JsonResponse(made).body) == written(made), made


def test_what_else_our_answers_are_made_of() -> None:
    """Words of ours, tuples, keys that are numbers; what JSON has not is an error."""
    for made in (Word.A, {Word.A: Word.A}, (1, (2, "a")), {1: 2}, {"a": {None: True}}, "\ud83d\ude00", ["e5,", "1e5]"]):
        assert bytes(JsonResponse(made).body) == written(made)
    with pytest.raises(TypeError):
        JsonResponse({"a": object()})
