"""Formulas of other settings, as in `lr: 1e-3 * 64 / width`: arithmetic on their values, nothing else."""

from __future__ import annotations

import ast
import math
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.text import nearest
from trainer.spec import SETTINGS, RunSpec, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST, _DEEPEST, _DIGITS = 200, 30, 12
_MOST = 1e300
_KEYS = {setting.key or name: name for name, setting in SETTINGS.items() if setting.section and setting.axis}
NAMES = {key: name for key, name in _KEYS.items() if SETTINGS[name].kind.number is not str}
"""What a formula may name, as a sweep file writes it, and the field of RunSpec that it is."""

PATTERN = rf"[-+*/(]|^({'|'.join(NAMES)})$"
"""What a text that is a formula matches, for the JSON Schema."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "sqrt": (math.sqrt, 1, 1),
    "round": (round, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "min": (min, 2, 8),
    "max": (max, 2, 8),
}
"""The functions of a formula, and how many values each takes."""


class FormulaError(ValueError):
    """A text that is no formula; `offset` is the character, from 0, at which it goes wrong."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True)
class Formula:
    """A formula of other settings, equal to another of the same text."""

    text: str
    tree: ast.expr = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def names(self) -> list[str]:
        """The fields of RunSpec that it needs, in the order in which it names them."""
        functions = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        named = [n for n in ast.walk(self.tree) if isinstance(n, ast.Name) and id(n) not in functions]
        return list(dict.fromkeys(NAMES[node.id] for node in sorted(named, key=lambda node: node.col_offset)))


def is_formula(text: str) -> bool:
    """Whether a text in the place of a number is meant as a formula: it calculates, or names another setting."""
    stripped = text.strip()
    if stripped in NAMES:
        return True
    if not re.search(r"[-+*/(^]", stripped) or re.fullmatch(r"[-+]?[\d_.]+([eE][-+]?[\d_]*)?", stripped):
        return False
    return bool(re.search(r"\d|\(|\b(" + "|".join(NAMES) + r")\b", stripped))


def parse(text: str) -> Formula:
    """The formula that a text says. Raises FormulaError."""
    if len(text) > _LONGEST:
        raise FormulaError(f"a formula of {len(text):,} characters; at most {_LONGEST}", 0)
    if "^" in text:
        raise FormulaError("'^' is not a power here; write **", text.index("^"))
    stripped, indent = text.strip(), len(text) - len(text.lstrip())
    try:
        tree = ast.parse(stripped, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = error.offset if isinstance(error, SyntaxError) else None
        hint = "; put it in quotes if it has a comma" if text.count("(") > text.count(")") else ""
        raise FormulaError(f"not a formula: {text!r}{hint}", (offset or 1) - 1 + indent) from error
    _check(tree, indent, 0)
    return Formula(stripped, tree)


def _check(node: ast.AST, indent: int, depth: int) -> None:
    """Raise FormulaError for the first part that is no arithmetic."""
    at = getattr(node, "col_offset", 0) + indent
    if depth > _DEEPEST:
        raise FormulaError(f"nested deeper than {_DEEPEST} levels", at)
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) <= _MOST:
            parts: list[ast.expr] = []
        case ast.Name(id=name):
            parts = []
            if name not in NAMES:
                raise FormulaError(f"unknown name {name!r}; {_nearest(name, [*NAMES, *_FUNCTIONS])}", at)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            parts = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            parts = [operand]
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]):
            _check_call(name, len(parts), at)
        case ast.Tuple():
            raise FormulaError("several values are a list: [1e-3, 1e-2]", at)
        case _:
            functions = ", ".join(_FUNCTIONS)
            raise FormulaError(f"only numbers, names of settings, + - * / // ** and {functions} calculate", at)
    for part in parts:
        _check(part, indent, depth + 1)


def _check_call(name: str, values: int, at: int) -> None:
    if name not in _FUNCTIONS:
        raise FormulaError(f"unknown function {name!r}; {_nearest(name, list(_FUNCTIONS))}", at)
    _, least, most = _FUNCTIONS[name]
    if not least <= values <= most:
        takes = "one value" if most == 1 else f"{least} to {most} values"
        raise FormulaError(f"{name} takes {takes}, found {values}", at)


def _nearest(word: str, words: list[str]) -> str:
    if _KEYS.get(word):
        return f"{word} is no number"
    return nearest(word, words, "a formula may name")


def evaluated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of RunSpec with the value of each formula in its place, rounded to 12 digits.

    A formula takes what the fields do not set from the defaults of RunSpec. Raises SpecError, which names the
    field, for a formula that has no value, or that needs itself.
    """
    values = dict(fields)
    for name in [name for name, value in fields.items() if isinstance(value, Formula)]:
        _settle(name, values, ())
    return values


def _settle(name: str, values: dict[str, Any], above: tuple[str, ...]) -> Any:
    """The value of a field, calculated first if it is a formula; `above` are the fields that wait for it."""
    if name in above:
        raise SpecError(above[0], f"this formula needs itself: {' -> '.join((*above[above.index(name) :], name))}")
    formula = values.get(name, getattr(RunSpec, name))
    if not isinstance(formula, Formula):
        return formula
    operands: dict[str, Any] = {}
    for other in formula.names:
        value = _settle(other, values, (*above, name))
        if value is None:
            raise SpecError(name, f"the formula {formula.text!r} needs {_key(other)}, which is not set here")
        operands[_key(other)] = value
    values[name] = _number(name, formula, operands)
    return values[name]


def _number(name: str, formula: Formula, operands: Mapping[str, Any]) -> int | float:
    """What a formula amounts to; whole where the field is whole and it is within rounding of a whole number."""
    try:
        value = _value(formula.tree, operands)
        real = float(value)
    except (ArithmeticError, ValueError, TypeError) as error:
        why = "a division by zero" if isinstance(error, ZeroDivisionError) else "no finite real number"
        raise SpecError(name, f"{formula.text!r} is {why}{_where(operands)}") from error
    if not math.isfinite(real):
        raise SpecError(name, f"{formula.text!r} is no finite real number{_where(operands)}")
    if SETTINGS[name].kind.number is int:
        if abs(real - round(real)) <= 1e-9 * abs(real):
            return round(real)
        raise SpecError(
            name, f"{formula.text!r} is {real:.6g}{_where(operands)}; it must be a whole number: round(...)"
        )
    rounded = float(f"{real:.{_DIGITS}g}")  # so that another way to write the value is the same run
    if (refusal := SETTINGS[name].kind.refusal(rounded)) is not None:
        raise SpecError(name, f"{formula.text!r}: {refusal}{_where(operands)}")
    return rounded


def _where(operands: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in operands.items())
    return f" where {values.replace(', ', ' and ')}" if values else ""


def _key(name: str) -> str:
    return SETTINGS[name].key or name


def _value(node: ast.AST, operands: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return operands[name]
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _value(left, operands), _value(right, operands)
            if isinstance(op, ast.Pow):  # 9 ** 9 ** 9 as whole numbers would take the machine
                first, second = float(first), float(second)
            return _bounded(_BINARY[type(op)](first, second))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, operands))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name][0](*(_value(argument, operands) for argument in arguments))
    raise AssertionError(node)


def _bounded(value: Any) -> Any:
    """A number that stays small in memory: whole numbers beyond the range of floats are an error."""
    float(value)
    return value
