"""The Python API: docs/python.md as it stands, in the tiny demo."""

import re
from pathlib import Path

from helpers.workspace import ROOT, Workspace

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def files(workspace: Workspace) -> list[Path]:
    return sorted(path for path in workspace.root.rglob("*") if "__pycache__" not in path.parts)


def test_the_examples_run_and_the_first_writes_nothing(workspace):
    first, second = EXAMPLES
    assert len(first.splitlines()) <= 7
    before = files(workspace)
    said = workspace.done("script", "-c", first)
    assert re.findall(r"^ +\d+\.\d s to +\d+\.\d s  \w+  \d\.\d\d$", said, re.MULTILINE)
    assert files(workspace) == before
    assert 0 <= float(workspace.done("script", "-c", second).splitlines()[-1]) <= 1


def test_importing_um_loads_no_large_library(shared):
    program = (
        "import sys, um; assert 'localize' in dir(um); print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert shared.done("python", "-c", program) == "[]\n"
