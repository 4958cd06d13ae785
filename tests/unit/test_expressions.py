"""Expressions in schedules: they are what Python's and numexpr's arithmetic says, and nothing else is run."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.animation.expressions import FUNCTIONS, Expression, ExpressionError

NAMES = ("t", "max_f")


def value(text: str, t: float = 3.0, max_f: float = 15.0) -> float:
    """At one frame; nan where there is no value."""
    return float(Expression(text, NAMES)({"t": np.array([t]), "max_f": np.array(max_f)})[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1), (" .5 ", 0.5), ("1e-1", 0.1), ("-t", -3), ("+t - -2", 5), ("t/2", 1.5), ("1/3", 1 / 3), ("7//2", 3),
        ("2**3**2", 512), ("-2**2", -4), ("(t-10)%5", 3), ("-7.5%2", 0.5), ("t%2", 1), ("max_f", 15), ("2*pi", 2 * math.pi),
        ("sin(t/10)", math.sin(0.3)), ("10*sin(2*3.14*t/10)", 10 * math.sin(0.6 * 3.14)), ("cos(0)", 1), ("abs(-2)", 2),
        ("floor(-0.5)", -1), ("ceil(0.2)", 1), ("sqrt(t+1)", 2), ("exp(0)+log(e)+log10(100)", 4), ("min(t, 2, 9)", 2),
        ("max(t, 2)", 3), ("arctan2(1, 1)*4", math.pi), ("t > 2", 1), ("t == 4", 0), ("t != 4", 1), ("t <= 3", 1),
        ("(t > 1) & (t < 5)", 1), ("(t > 5) | (t < 2)", 0), ("where(t < 4, 1, 2)", 1), ("where(t > 4, 1, 2)", 2),
        ("where(t > 4, 1/0, 2)", 2), ("0.5\n+ t", 3.5),
    ],
)  # fmt: skip
def test_what_it_comes_to(text, expected):
    """Division, powers and remainders were compared with numexpr 2.14's."""
    assert value(text) == pytest.approx(expected, rel=1e-15)


_SMALL = st.floats(-9, 9).map(lambda number: f"{number:.3f}") | st.integers(0, 9).map(str) | st.sampled_from(NAMES)
_TREES = st.recursive(
    _SMALL,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "%", "//", "<", ">="]), inner, inner).map(lambda p: f"({p[1]} {p[0]} {p[2]})"),
        st.tuples(st.sampled_from(["sin", "cos", "abs", "exp", "floor", "tanh"]), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=12,
)


@settings(deadline=None)  # the machine may be busy
@given(_TREES, st.integers(0, 100))
def test_equals_python_s_own_arithmetic(text, t):
    known = {name: getattr(math, name) for name in ("sin", "cos", "exp", "floor", "tanh")}
    try:
        expected = float(eval(text, {**known, "t": float(t), "max_f": 15.0}))  # noqa: S307 - of texts that this test makes
    except (ArithmeticError, ValueError):
        return  # Python stops at what numexpr goes on with, as in tanh(1 / 0)
    if math.isfinite(expected):
        assert value(text, t) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("text", ["1/t", "log(t)", "t**-1", "1%t", "sqrt(t-1)", "exp(1000+t)", "where(t, 1, 0/t)", "1e308*10"])
def test_no_value(text):
    """Nothing finite, that is."""
    assert not math.isfinite(value(text, 0.0))


def test_all_frames_at_once():
    frames = np.arange(5.0)
    assert Expression("t * max_f + 1", NAMES)({"t": frames, "max_f": np.array(2.0)}).tolist() == [1, 3, 5, 7, 9]
    assert Expression("1 / 2", NAMES)({"t": frames, "max_f": np.array(2.0)}).tolist() == [0.5] * 5
    assert Expression("where(t > 2, t, 1 / 0 * 0)", NAMES)({"t": frames, "max_f": np.array(2.0)})[3:].tolist() == [3, 4]
    assert frames.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "wrong", "at"),
    [
        ("", "a value is missing", 0),
        ("1 +", "cannot be read from here on", 2),
        ("  1 $ 2", "cannot be read from here on", 4),
        ("2 * x", "'x' is not known. There are t, max_f, pi, e.", 0),
        ("é + t", "'é' is not known", 0),
        ("'é' + foo", "this is not arithmetic", 0),
        ("t + pow(2, 3)", "there is no function 'pow'. There are abs, arccos", 0),
        ("sin(1, 2)", "sin takes 1 numbers, not 2", 0),
        ("where(t)", "where takes 3 numbers, not 1", 0),
        ("min(1)", "min takes 2 to 9 numbers, not 1", 0),
        ("t^2", "'^' is not understood. Powers are written with **", 0),
        ("1e999", "a number is too large", 0),
        ("9" * 400, "a number is too large", 0),
        ("1 + 1j", "this is not arithmetic", 0),
        ("sin + 1", "this is not arithmetic", 0),
        ("1 +" * 200 + "1", "the expression is nested too deeply", 0),
        ("True", "this is not arithmetic", 0),
        ("1 < t < 2", "this is not arithmetic", 0),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, wrong, at):
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert wrong in str(caught.value)
    assert caught.value.at == at


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "(1).__class__", "t.real", "[x for x in (1,)]", "(lambda: 1)()", "'a' * 9", "{1: 2}",
        "f'{t}'", "t if t else 1", "(t := 4)", "sin", "sin(*[1])", "sin(x=1)", "min(1, key=abs)", "abs.__globals__", "()", "...",
        "arctan2(1, 2, t)", "1 in t", "t is t", "t and 1", "-True",
        "print(1)", "eval('1')", "1; 2", "t = 2", "await t", "not t", "~t", "2 @ 2", "1 << 9", "None", "\0", "b'1'",
    ],
)  # fmt: skip
def test_nothing_but_arithmetic(text):
    with pytest.raises(ExpressionError):
        value(text)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9**9", "9.0**999999", "exp(exp(exp(9)))", "-" * 900 + "1", "(" * 400 + "1" + ")" * 400, "(" * 900, "1" * 5000,
        "+".join("1" * 490), "sin(" * 200 + "1" + ")" * 200, "1**" * 300 + "1", "0x" + "f" * 900, "1_" * 400 + "1", "t" * 900,
    ],
)  # fmt: skip
def test_hostile_texts_end_at_once(text):
    start = time.perf_counter()
    try:
        found = value(text)
    except ExpressionError:
        found = math.nan
    assert not math.isfinite(found)
    assert time.perf_counter() - start < 5


def test_functions_are_numexpr_s_and_three_more():
    assert {"sin", "arctan2", "where", "log1p", "floor"} < set(FUNCTIONS)
    assert {"min", "max", "round"} < set(FUNCTIONS)
