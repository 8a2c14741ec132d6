"""What must hold on a GPU; skipped where there is none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
ROOT = Path(__file__).parents[2]


def test_results_agree_with_the_cpus_and_repeat_to_the_bit():
    """The checks of benchmarks/gpu.py: features, flow, losses and scores; two extractions, two trainings."""
    command = [sys.executable, ROOT / "benchmarks/gpu.py", "--device", "cuda", "--small", "--minutes", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(re.findall(r"^\|.*\| ok: ", ended.stdout, re.MULTILINE)) == 8
