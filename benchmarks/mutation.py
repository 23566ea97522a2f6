"""What can be mutated in a source file, and how: one small change at a time to what the code computes.

Left alone are docstrings, messages (whatever a ``raise`` or a warning says, strings), type hints, assertions (the
``strict`` of ``zip`` among them), numbers that are the looks of a picture (``LOOKS``) and what only decides how fast or
in how large pieces something is done (``SPEED``).
"""

import ast
import re
from dataclasses import dataclass
from functools import cache

SPEED = re.compile(r"MEMORY|CACHE|CHUNK|BLOCK|LANES|LAYERS|ROWS|memory|threads|workers|pragma|can_sync|_may_stop")
"""Lines with one of these words decide how, not what."""
LOOKS = re.compile(r"/report/(figures|gallery|latent_curve|learning|loadings|pictures|style)\.py")
"""Files whose numbers are widths, shades and places on a page."""
COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is"}
CALCULATED = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "**": "*", "%": "*", "&": "|", "|": "&"}
JOINED = {"and": "or", "or": "and"}
SYMBOLS: dict[type[ast.AST], str] = {
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is"},
    **{ast.IsNot: "is not", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//"},
    **{ast.Pow: "**", ast.Mod: "%", ast.BitAnd: "&", ast.BitOr: "|", ast.And: "and", ast.Or: "or"},
}


@dataclass(frozen=True)
class Mutation:
    """``text[begin:end]`` of a file becomes ``new``."""

    path: str
    kind: str
    begin: int
    end: int
    new: str
    inside: str = ""
    """The class or function of the module around it; "" where there is none."""

    def apply(self, text: str) -> str:
        return text[: self.begin] + self.new + text[self.end :]

    def line(self, text: str) -> int:
        return text.count("\n", 0, self.begin) + 1

    def diff(self, text: str) -> str:
        """The lines before and after it."""
        first, last = text.rfind("\n", 0, self.begin) + 1, text.find("\n", self.end)
        before, after = text[first:last], text[first : self.begin] + self.new + text[self.end : last]
        return "\n".join(f"{sign} {' '.join(part.split())}" for sign, part in (("-", before), ("+", after)))


@cache
def mutations(path: str, text: str) -> list[Mutation]:
    """All that can be drawn from one file."""
    found = python(path, text) if path.endswith(".py") else c(path, text)
    lines = text.splitlines()
    found = [one for one in found if not SPEED.search(lines[one.line(text) - 1])]
    return [one for one in found if not (LOOKS.search(path) and one.kind in ("constant", "off by one"))]


# --- Python ------------------------------------------------------------------------------------------------------


def python(path: str, text: str) -> list[Mutation]:
    """By the syntax tree."""
    reader = _Reader(path, text)
    reader.visit(ast.parse(text))
    return reader.found


class _Reader(ast.NodeVisitor):
    def __init__(self, path: str, text: str):
        self.path, self.text, self.found, self.inside = path, text, [], ""
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines = text.splitlines()

    def at(self, line: int, column: int) -> int:
        """The index of a place that the tree names by line and UTF-8 column."""
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def add(self, kind: str, begin: int, end: int, new: str) -> None:
        self.found.append(Mutation(self.path, kind, begin, end, new, self.inside))

    def between(self, kind: str, left: ast.AST, right: ast.AST, table: dict[str, str], operator: ast.AST) -> None:
        """The operator that stands between two operands."""
        old = SYMBOLS.get(type(operator), "")
        begin, end = self.span(left)[1], self.span(right)[0]
        place = re.search(rf"(?<![\w*/]){re.escape(old)}(?![\w*/=])", self.text[begin:end]) if old in table else None
        if place:
            self.add(kind, begin + place.start(), begin + place.end(), table[old])

    # what is left alone

    def visit_Raise(self, node: ast.Raise) -> None:
        return

    def visit_Assert(self, node: ast.Assert) -> None:
        return

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        return

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        return

    visit_ImportFrom = visit_Import

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *node.kw_defaults):
            if default:
                self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, self.inside = self.inside, self.inside or node.name
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)
        self.inside = before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before, self.inside = self.inside, self.inside or node.name
        for statement in node.body:
            self.visit(statement)
        self.inside = before

    # what is mutated

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between("comparison", left, right, COMPARED, operator)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not (isinstance(node.op, ast.BitOr) and _is_type(node)):
            self.between("operator", node.left, node.right, CALCULATED, node.op)
            self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between("boolean", left, right, JOINED, node.op)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not) and not isinstance(node.operand, ast.Constant):
            begin = self.span(node)[0]
            self.add("sign", begin, begin + len("-" if isinstance(node.op, ast.USub) else "not "), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add("constant", *self.span(node), repr(not value))
        elif isinstance(value, int):
            self.add("off by one", *self.span(node), repr(value + 1))
        elif isinstance(value, float):
            self.add("constant", *self.span(node), repr(2 * value or 1.0))

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.BinOp | ast.Call | ast.Name):
            begin, end = self.span(node.value)
            self.add("return value", begin, end, "None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and not _is_message(node.value):
            self.add("removed statement", *self.span(node), "pass")
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add("removed statement", *self.span(node), "pass")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        begin, end = self.span(node.test)
        self.add("condition", begin, end, f"not ({self.text[begin:end]})")
        self.generic_visit(node)


def _is_type(node: ast.BinOp) -> bool:
    """Whether ``A | B`` joins types."""
    sides = (node.left, node.right)
    return any(
        (isinstance(side, ast.Constant) and side.value is None)
        or (isinstance(side, ast.Name) and side.id[0].isupper())
        or (isinstance(side, ast.Name) and side.id in {"int", "float", "str", "bool", "bytes", "list", "dict", "tuple"})
        or (isinstance(side, ast.BinOp) and _is_type(side))
        for side in sides
    )


def _is_message(call: ast.Call) -> bool:
    """Whether a call only says something."""
    return bool(re.search(r"warn|log(ger|ging)?\.|print|info\(|debug\(", ast.unparse(call.func) + "("))


# --- C -----------------------------------------------------------------------------------------------------------

C_RULES = (
    ("comparison", re.compile(r"(?<![<>=!+\-*/&|-])(<=|>=|==|!=|<|>)(?![<>=])(?= )"), COMPARED),
    ("operator", re.compile(r"(?<= )([+\-*/])(?= )"), CALCULATED),
    ("boolean", re.compile(r"(&&|\|\|)"), {"&&": "||", "||": "&&"}),
    ("removed update", re.compile(r"(?<= )([+\-*/]=)(?= )"), {sign + "=": "=" for sign in "+-*/"}),
)
C_TEXT = re.compile(r"/\*.*?\*/|^[ \t]*#[^\n]*|\"[^\"\n]*\"", re.S | re.M)
C_NUMBER = re.compile(r"(?<![\w.\[])(\d+\.\d+|\d+)(?![\w.])")


def c(path: str, text: str) -> list[Mutation]:
    """By patterns, outside of comments, directives and declarations of pointers."""
    code = C_TEXT.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    found = []
    for kind, pattern, table in C_RULES:
        for place in pattern.finditer(code):
            found.append(Mutation(path, kind, *place.span(1), table[place.group(1)]))
    for place in C_NUMBER.finditer(code):
        value = place.group()
        new = str(float(value) * 2 or 1.0) if "." in value else str(int(value) + 1)
        found.append(Mutation(path, "constant" if "." in value else "off by one", *place.span(), new))
    return sorted(found, key=lambda one: one.begin)
