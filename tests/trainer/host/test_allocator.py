from __future__ import annotations

import subprocess
import sys

import pytest

from trainer.host.allocator import keep_freed_memory

SCRIPT = """
import resource
import numpy as np
from trainer.host.allocator import keep_freed_memory

def pages_fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        held = [np.ones(2**20, np.float32) for _ in range(8)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages_fetched()
print(pages_fetched(), keep_freed_memory(), pages_fetched() and pages_fetched())
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library has no mallopt")
def test_memory_that_was_freed_is_not_fetched_from_the_kernel_again():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, kept, after = done.stdout.split()
    assert kept == "True"
    assert int(after) < int(before) / 10
