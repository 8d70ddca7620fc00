"""A solution cell without its answers: the cell that the exercises show."""

import ast
import io
import re
import tokenize

from tools import Refused

STUB = 'raise NotImplementedError("not solved yet")'
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def without_answers(source: str, place: str) -> tuple[str, list[str]]:
    """A solution cell with stubs for bodies, and the names of the answers that need a check."""
    try:
        source = without_comments(source)
        tree = ast.parse(source)
    except (SyntaxError, tokenize.TokenError) as error:
        raise Refused(f"{place}: the solution is not plain Python ({error})") from None
    imports, stubs, names, faults = [], [], [], []
    for node in tree.body:
        here = f"{place}, line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            text = ast.get_source_segment(source, node)
            imports += [line for line in text.split("\n") if line.strip()]
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names += [] if node.name.startswith("_") else [node.name]
            stubs.append("\n".join(stub(node, source)))
            if not methods(node):
                faults.append(
                    f"{here}: class `{node.name}` has no method that could be left to write"
                )
            for part in methods(node):
                if all(map(is_idle, part.body)):
                    faults.append(f"{place}, line {part.lineno}: `{part.name}` holds no answer")
        else:
            text = ast.unparse(node).split("\n")[0]
            faults.append(
                f"{here}: a solution cell holds imports, functions and classes; move `{text}`"
            )
    if not stubs:
        faults.append(f"{place}: the solution defines no function and no class")
    if faults:
        raise Refused(*faults)
    return "\n\n\n".join(["\n".join(imports), *stubs] if imports else stubs), names


def without_guess(source: str, place: str) -> tuple[str, str]:
    """A guess cell with dots for the guess, and the guess's name; its comment says what is asked."""
    line = source.partition("\n")[2]
    match ast.parse(line).body if "\n" not in line else None:
        case [ast.Assign(targets=[ast.Name(id=name)], value=value)]:
            text = line.encode()
            before, after = text[: value.col_offset], text[value.end_col_offset :]
            return f"{before.decode()}...{after.decode()}", name
    raise Refused(f"{place}: a guess cell holds one line, `guess_1_1 = 5  # what is asked`")


def without_comments(source: str) -> str:
    """The source without its comments; the lines keep their numbers."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return "\n".join(lines)


def methods(node: ast.stmt) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions whose bodies are the answer: this one, or those of this class."""
    if isinstance(node, FUNCTIONS):
        return [node]
    return [part for part in node.body if isinstance(part, FUNCTIONS)]


def is_idle(part: ast.stmt) -> bool:
    """Whether the statement is a docstring, `pass`, `...` or a NotImplementedError."""
    constant = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    return (
        constant
        or isinstance(part, ast.Pass)
        or ast.unparse(part).startswith("raise NotImplementedError")
    )


def asks(source: str) -> bool:
    """Whether a cell of the exercises has room for an answer: a stub, or dots in place of a guess."""
    return STUB in source or re.search(r"^\w+ = \.\.\.", source, re.MULTILINE) is not None


def is_unsolved(source: str) -> bool:
    """Whether such a cell holds stubs and imports, or dots, and nothing else, as it was handed out."""
    try:
        body = ast.parse(source).body
        if body and all(ast.unparse(node).endswith(" = ...") for node in body):
            return True
        plain = without_comments(source) == source
    except (SyntaxError, tokenize.TokenError):  # an answer, half written
        return False
    return plain and all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or isinstance(node, (*FUNCTIONS, ast.ClassDef))
        and all(map(is_idle, (part for method in methods(node) for part in method.body)))
        for node in body
    )


def stub(node: ast.stmt, source: str) -> list[str]:
    """The lines of a function, or of a class and its methods, with STUB for each answer."""
    lines, body = source.split("\n"), node.body[0]
    first, last = first_line(node), first_line(body)
    head = [*lines[first - 1 : last - 1], lines[last - 1].encode()[: body.col_offset].decode()]
    result = [line.rstrip() for line in head if line.strip()]
    indent = " " * (node.col_offset + 4)
    if ast.get_docstring(node) is not None:
        result.append(indent + ast.get_source_segment(source, body))
    if isinstance(node, FUNCTIONS):
        return [*result, indent + STUB]
    for number, method in enumerate(methods(node)):
        gap = [""] if number or ast.get_docstring(node) is not None else []
        result += [*gap, *stub(method, source)]
    return result


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
