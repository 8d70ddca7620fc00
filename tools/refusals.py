"""What a promoted cell may not hold, because it would run when the module is imported."""

import ast


def refusals(node: ast.stmt):
    """(line, reason) for whatever in a top-level statement would run when the module is imported."""
    match node:
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            yield node.lineno, f"`{shown(node)}` hides which names it brings"
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
            pass
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            for line, call in calls(node.args):
                yield line, f"the signature of `{node.name}` calls `{call}`"
        case ast.ClassDef():
            for part in node.body:
                match part:
                    case ast.Pass() | ast.Expr(value=ast.Constant()):
                        pass
                    case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                        yield from refusals(part)
                    case ast.Assign() | ast.AnnAssign():
                        for line, call in calls(part):
                            yield line, f"the body of class `{node.name}` calls `{call}`"
                    case _:
                        yield part.lineno, f"the body of class `{node.name}` runs `{shown(part)}`"
        case ast.Assign() | ast.AnnAssign():
            if not is_constant(node):
                yield node.lineno, f"`{shown(node)}` is not a literal constant"
        case _:
            yield node.lineno, f"move `{shown(node)}` to its own cell"


def calls(node: ast.AST):
    """(line, call) for the calls that run with this node: not in a lambda, and no dataclass field."""
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] not in (
        "field",
        "auto",
    ):
        yield node.lineno, shown(node)
    for child in ast.iter_child_nodes(node):
        yield from calls(child)


def is_constant(node: ast.Assign | ast.AnnAssign) -> bool:
    targets = getattr(node, "targets", None) or [node.target]
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError):
        return False
    return all(isinstance(target, ast.Name) for target in targets)


def shown(node: ast.AST) -> str:
    """A statement as short as it can be recognized by."""
    inner = node.value if isinstance(node, ast.Expr) else node
    if isinstance(inner, ast.Call):
        return f"{ast.unparse(inner.func)}(...)"
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 50 else f"{text[:47]}..."
