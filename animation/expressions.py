"""Arithmetic written as text, such as ``0.5 + 0.5 * sin(t / 10)``, worked out for all frames at once by simpleeval.

Names and functions are those of numexpr, in which Deforum's and FizzNodes' schedules are written. As there, a part that has
no value, such as 1 / 0, does no harm where ``where`` leaves it out.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from simpleeval import FunctionNotDefined, InvalidExpression, NameNotDefined, OperatorNotDefined, SimpleEval

from .errors import UserError

_MOST_CHARACTERS, _DEEPEST = 1000, 100
_CONSTANTS = {"pi": math.pi, "e": math.e}


class ExpressionError(UserError):
    """An expression cannot be read from character ``at`` on."""

    def __init__(self, wrong: str, at: int = 0) -> None:
        super().__init__(wrong)
        self.at = at


def _of_floats(name: str, function: Callable[..., Any], fewest: int, most: int) -> Callable[..., np.ndarray]:
    """Let a function take and give floats only: powers of integers could take for ever, and comparisons give no numbers."""

    def call(*numbers: Any) -> np.ndarray:
        if not fewest <= len(numbers) <= most:
            wanted = f"{fewest} to {most}" if fewest != most else f"{fewest}"
            raise ExpressionError(f"{name} takes {wanted} numbers, not {len(numbers)}.")
        return np.asarray(function(*(np.asarray(number, dtype=float) for number in numbers)), dtype=float)

    return call


_OF_ONE_NUMBER = (
    "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
    "log", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "floor", "ceil", "round",
)  # fmt: skip
_FUNCTIONS = {name: _of_floats(name, getattr(np, name), 1, 1) for name in _OF_ONE_NUMBER} | {
    "arctan2": _of_floats("arctan2", np.arctan2, 2, 2),
    "min": _of_floats("min", lambda *numbers: functools.reduce(np.minimum, numbers), 2, 9),
    "max": _of_floats("max", lambda *numbers: functools.reduce(np.maximum, numbers), 2, 9),
    "where": _of_floats("where", np.where, 3, 3),
}
_OPERATORS = {
    kind: _of_floats(kind.__name__, function, 1, 2)
    for kind, function in {
        ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.FloorDiv: np.floor_divide,
        ast.Mod: np.mod, ast.Pow: np.power, ast.UAdd: np.positive, ast.USub: np.negative, ast.BitAnd: np.logical_and,
        ast.BitOr: np.logical_or, ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
        ast.Eq: np.equal, ast.NotEq: np.not_equal,
    }.items()
}  # fmt: skip

FUNCTIONS = sorted(_FUNCTIONS)


class Expression:
    """An expression of the variables ``names``, read (or ExpressionError) to be worked out for any values of them."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text = text.strip()
        if not self.text:
            raise ExpressionError("a value is missing.")
        if len(text) > _MOST_CHARACTERS:
            raise ExpressionError(f"an expression may have {_MOST_CHARACTERS} characters, this one has {len(text)}.")
        self._evaluator = SimpleEval(_OPERATORS, _FUNCTIONS)
        kinds = (ast.Name, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call)
        self._evaluator.nodes = {kind: self._evaluator.nodes[kind] for kind in kinds} | {ast.Constant: _number}
        try:
            self._tree = ast.parse(self.text.replace("\n", " "), mode="eval").body
            _check_depth(self._tree)
            self(dict.fromkeys(names, np.ones(2)))
        except ExpressionError:
            raise
        except SyntaxError as error:
            at = min((error.offset or len(self.text)) - 1, len(self.text) - 1)  # 0 at the text's end
            raise ExpressionError("the expression cannot be read from here on.", at + text.index(self.text)) from None
        except NameNotDefined as error:
            raise ExpressionError(f"'{error.name[:60]}' is not known. There are {', '.join([*names, *_CONSTANTS])}.") from None
        except FunctionNotDefined as error:
            raise ExpressionError(f"there is no function '{error.func_name[:60]}'. There are {', '.join(FUNCTIONS)}.") from None
        except OverflowError:
            raise ExpressionError("a number is too large.") from None
        except (MemoryError, RecursionError):
            raise ExpressionError("the expression is nested too deeply.") from None
        except (InvalidExpression, TypeError, KeyError, ValueError) as error:
            if isinstance(error, OperatorNotDefined) and isinstance(error.attr, ast.BitXor):
                raise ExpressionError("'^' is not understood. Powers are written with **, as in t ** 2.") from None
            raise ExpressionError("this is not arithmetic. Use numbers, t, + - * / % **, comparisons and functions.") from None

    def __call__(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """Work it out for each frame; inf or nan where it has no value."""
        self._evaluator.names = {**_CONSTANTS, **variables}
        with np.errstate(all="ignore"):
            value = np.asarray(self._evaluator.eval(self.text, self._tree), dtype=float)
        return np.broadcast_to(value, np.broadcast_shapes(*(variable.shape for variable in variables.values())))


def _check_depth(tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise RecursionError


def _number(node: ast.Constant) -> np.ndarray:
    number = node.value
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        raise TypeError
    if abs(number) > np.finfo(float).max:
        raise OverflowError
    return np.asarray(number, dtype=float)
