"""Arithmetic written as text, such as ``0.5 + 0.5 * sin(t / 10)``, worked out without running it as Python.

Names and functions are those of numexpr, in which Deforum's and FizzNodes' schedules are written.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping

from .errors import UserError

Variables = Mapping[str, float]

_MOST_CHARACTERS = 1000
_DEEPEST = 100

_CONSTANTS = {"pi": math.pi, "e": math.e}
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,  # of floats, so that no power takes long or makes a complex number
    ast.BitAnd: lambda a, b: float(bool(a and b)),
    ast.BitOr: lambda a, b: float(bool(a or b)),
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SIGNS: dict[type, Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_ONE: dict[str, Callable[[float], float]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan,
    "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "arcsinh": math.asinh, "arccosh": math.acosh, "arctanh": math.atanh,
    "log": math.log, "log10": math.log10, "log1p": math.log1p, "exp": math.exp, "expm1": math.expm1,
    "sqrt": math.sqrt, "abs": abs, "floor": math.floor, "ceil": math.ceil, "round": round,
}  # fmt: skip
_FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {
    **{name: (function, 1, 1) for name, function in _ONE.items()},
    "arctan2": (math.atan2, 2, 2),
    "min": (min, 2, 9),
    "max": (max, 2, 9),
}
_WHERE = "where"  # works out only the side that it takes

FUNCTIONS = sorted([*_FUNCTIONS, _WHERE])
"""Names of the functions there are."""


class ExpressionError(UserError):
    """An expression cannot be read or has no value.

    Attributes:
        at: the character of the expression at which it goes wrong, from 0.
    """

    def __init__(self, wrong: str, at: int = 0) -> None:
        super().__init__(wrong)
        self.at = at


class Expression:
    """An expression that has been read, to be worked out for any values of its variables."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        """Read an expression of the variables ``names``.

        Raises:
            ExpressionError: it is none, or is too long or too deeply nested.
        """
        self.text = text.strip()
        self._value = _Reader(text, names).read()

    def __call__(self, variables: Variables) -> float:
        """Work it out.

        Raises:
            ExpressionError: it has no value, as 1 / 0 has none.
        """
        try:
            value = float(self._value(variables))
        except (ArithmeticError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise ExpressionError(f"'{self.text}' has no value for t = {variables['t']:g}.")
        return value


_Value = Callable[[Variables], float]


class _Reader:
    """Turns Python's syntax tree into functions, node by node; what is not listed here is refused."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self._text = text.replace("\n", " ")
        self._indent = len(text) - len(text.lstrip())
        self._names = names

    def read(self) -> _Value:
        if not self._text.strip():
            raise ExpressionError("an expression is missing.")
        if len(self._text) > _MOST_CHARACTERS:
            raise ExpressionError(f"an expression may have {_MOST_CHARACTERS} characters, this one has {len(self._text)}.")
        try:
            tree = ast.parse(self._text.strip(), mode="eval")
        except SyntaxError as error:
            at = min((error.offset or len(self._text)) - 1, len(self._text.strip()) - 1)  # 0 at the text's end
            raise ExpressionError("the expression cannot be read from here on.", self._indent + at) from None
        except (ValueError, MemoryError, RecursionError):
            raise ExpressionError("the expression cannot be read.") from None
        return self._node(tree.body, 0)

    def _node(self, node: ast.expr, depth: int) -> _Value:
        if depth > _DEEPEST:
            raise self._error(node, "the expression is nested too deeply.")
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return self._number(node, number)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _SIGNS:
                sign, inner = _SIGNS[type(op)], self._node(operand, depth + 1)
                return lambda variables: sign(inner(variables))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._pair(op, left, right, depth)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return self._pair(op, left, right, depth)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(node, name, [self._node(argument, depth + 1) for argument in arguments])
            case ast.BinOp(op=ast.BitXor()):
                raise self._error(node, "'^' is not understood. Powers are written with **, as in t ** 2.")
        raise self._error(node, "this is not arithmetic. Use numbers, t, + - * / % **, comparisons and functions.")

    def _number(self, node: ast.expr, number: float) -> _Value:
        try:
            value = float(number)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self._error(node, "the number is too large.")
        return lambda variables: value

    def _name(self, node: ast.expr, name: str) -> _Value:
        if name in self._names:
            return lambda variables: variables[name]
        if name in _CONSTANTS:
            return lambda variables: _CONSTANTS[name]
        known = ", ".join([*self._names, *_CONSTANTS])
        raise self._error(node, f"'{name}' is not known. There are {known}.")

    def _pair(self, op: ast.AST, left: ast.expr, right: ast.expr, depth: int) -> _Value:
        function, a, b = _OPERATORS[type(op)], self._node(left, depth + 1), self._node(right, depth + 1)
        return lambda variables: float(function(a(variables), b(variables)))

    def _call(self, node: ast.expr, name: str, arguments: list[_Value]) -> _Value:
        if name == _WHERE and len(arguments) == 3:
            condition, yes, no = arguments
            return lambda variables: yes(variables) if condition(variables) else no(variables)
        function, fewest, most = _FUNCTIONS.get(name, (None, 3, 3))
        if function is None and name != _WHERE:
            raise self._error(node, f"there is no function '{name}'. There are {', '.join(FUNCTIONS)}.")
        if function is None or not fewest <= len(arguments) <= most:
            wanted = f"{fewest} to {most}" if fewest != most else f"{fewest}"
            raise self._error(node, f"{name} takes {wanted} numbers, not {len(arguments)}.")
        return lambda variables: float(function(*(argument(variables) for argument in arguments)))

    def _error(self, node: ast.expr, wrong: str) -> ExpressionError:
        before = self._text.strip().encode()[: node.col_offset].decode(errors="ignore")
        return ExpressionError(wrong, self._indent + len(before))
