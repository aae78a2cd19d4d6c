# SPDX-License-Identifier: Apache-2.0
"""What glibc does with freed memory, in processes of their own."""

import os
import subprocess
import sys

import pytest

from rmpe_ros.io.process_memory import _USERS_CHOICES

_COUNT_FAULTS = """
import resource, sys
from rmpe_ros.io.process_memory import reuse_freed_memory, return_freed_memory, resident_megabytes

if 'reuse' in sys.argv:
    print(reuse_freed_memory())
def use():
    images = [b'x' * 1_000_000 for _ in range(4)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = resident_megabytes()
return_freed_memory()
print(held - resident_megabytes())
"""

pytestmark = pytest.mark.skipif(
    sys.platform != 'linux' or 'glibc' not in os.confstr('CS_GNU_LIBC_VERSION'),
    reason='glibc alone has these settings',
)


def _run(*arguments: str, **environment: str) -> list[str]:
    clean = {key: value for key, value in os.environ.items() if key not in _USERS_CHOICES}
    done = subprocess.run(
        [sys.executable, '-c', _COUNT_FAULTS, *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_freed_images_are_reused_and_can_be_given_back():
    plain_faults, _ = _run()
    will, faults, returned = _run('reuse')
    assert will == 'True'
    assert int(faults) < 200 < 10_000 < int(plain_faults)
    assert float(returned) > 3


def test_the_choice_of_a_user_stands():
    will, faults, _ = _run('reuse', MALLOC_TRIM_THRESHOLD_='131072')
    assert will == 'False'
    assert int(faults) > 10_000
