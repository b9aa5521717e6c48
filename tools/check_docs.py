"""Check that every public name has a docstring and that the generated pages are up to date."""

import ast
import sys
from pathlib import Path

from generate_docs import pages

ROOT = Path(__file__).parent.parent
LONGEST_FILE, LONGEST_FUNCTION = 400, 40


def main() -> None:
    """Write what is wrong and exit with 1, or say that all is well."""
    problems = [*_undocumented(), *_outdated(), *_missing_from_architecture()]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if problems:
        sys.exit(1)
    sys.stdout.write("docs: every public name is documented, generated pages are up to date\n")


def _undocumented() -> list[str]:
    problems = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree, where = ast.parse(text), path.relative_to(ROOT)
        if text.count("\n") > LONGEST_FILE:
            problems.append(f"{where}: longer than {LONGEST_FILE} lines")
        if not ast.get_docstring(tree):
            problems.append(f"{where}: module without docstring")
        problems += [f"{where}:{line} {problem}" for line, problem in _definitions(tree)]
    return problems


def _definitions(tree: ast.Module) -> list[tuple[int, str]]:
    problems = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        if not node.name.startswith("_") and not docstring and not _is_local(node, tree):
            problems.append((node.lineno, f"{node.name} has no docstring"))
        if not isinstance(node, ast.ClassDef):
            body = node.body[1:] if docstring else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if length > LONGEST_FUNCTION:
                problems.append((node.lineno, f"{node.name} is longer than {LONGEST_FUNCTION} lines"))
    return problems


def _is_local(node: ast.AST, tree: ast.Module) -> bool:
    """Return True for a function inside a function, which no one else can name."""
    functions = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one is not node)
    return any(node in ast.walk(one) for one in functions)


def _outdated() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: not up to date; run `make docs`"
        for path, content in pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]


def _missing_from_architecture() -> list[str]:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folder = ROOT / "src" / "clip_unlearn"
    rooms = [path.name for path in folder.iterdir() if path.is_dir() and (path / "__init__.py").is_file()]
    return [f"ARCHITECTURE.md does not name {room}/" for room in sorted(rooms) if f"{room}/" not in page]


if __name__ == "__main__":
    main()
