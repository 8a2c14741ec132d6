"""What reaches the shell from the workflow's rules."""

import re
from pathlib import Path

import pytest

RULES = sorted(Path("workflow/rules").glob("*.smk"))
BLOCK = re.compile(r'shell:\s*r?"""(.*?)"""', re.DOTALL)


@pytest.mark.parametrize("path", [path for path in RULES if path.name != "common.smk"], ids=lambda path: path.name)
def test_every_value_in_a_shell_block_is_quoted(path):
    text = path.read_text("utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("shell:") > 0
    for block in blocks:
        assert (values := re.findall(r"\{[^}]*\}", block))
        assert [value for value in values if not value.endswith(":q}")] == []
