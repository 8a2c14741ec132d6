"""The commands that messages name exist, with the options that they name; test_faults and test_errors follow them."""

import ast
import re
from pathlib import Path

import pytest
import typer

from um.cli import app

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src/um").rglob("*.py"))
COMMAND = re.compile(r"\bum ((?:data |features )?[a-z]+)((?: --?[a-z][\w-]*(?:[ =][\w./{}<>]+)?)*)")
NO_VERB = {"demo", "needs"}  # the name of its annotations, and prose


def texts(path: Path) -> list[str]:
    """The strings of a module but for its docstrings; what an f-string puts in is {}."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    bare = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare | parts:
            found.append(node.value)
    return found


def commands() -> dict[str, set[str]]:
    """Every verb, with its options."""
    group = typer.main.get_command(app)
    verbs = dict(group.commands)
    for name in ("data", "features"):
        verbs |= {f"{name} {verb}": command for verb, command in verbs.pop(name).commands.items()}
    return {name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)} for name, command in verbs.items()}


def named(path: Path) -> list[tuple[str, str]]:
    """The verbs that a module's messages name, each with the options beside it."""
    return [found for text in texts(path) for found in COMMAND.findall(text) if found[0] not in NO_VERB]


def test_messages_name_commands():
    assert len({(path, *found) for path in MODULES for found in named(path)}) > 40


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_named_commands_exist(path):
    known = commands()
    for verb, options in named(path):
        assert verb in known, f"`um {verb}{options}`"
        wanted = set(re.findall(r"--[a-z][\w-]*", options)) - {"--help", "--debug"}
        assert wanted <= known[verb], f"`um {verb}{options}`"
