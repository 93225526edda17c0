"""What a command imports."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from mpt.system.quiet import keep_torch_out
{before}
keep_torch_out()
import mpt.recipes.adapt, mpt.recipes.pretrain, mpt.recipes.compare
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("before, there", [("", False), ("import torch", True)])
def test_torch_is_imported_by_nobody_but_the_user(before, there):
    pytest.importorskip("torch")
    program = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(there)]


def test_torch_can_be_imported_after_it():
    pytest.importorskip("torch")
    program = PROGRAM.format(before="") + "import torch; print(torch.zeros(1).item())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "0.0"]
