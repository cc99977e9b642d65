"""What ``make test-any-day`` puts on PYTHONPATH: a ``time.sleep`` that works below faketime.

Python sleeps until a moment of the monotonic clock. libfaketime (0.9.10) takes its offset off that moment, although
that clock is not faked: two years ahead each sleep ends in "invalid argument", and with a day back in a day.
"""

import select
import time
from typing import Any


def sleep(seconds: Any, /) -> None:
    """Wait, by a call that libfaketime leaves alone."""
    select.select([], [], [], seconds)


time.sleep = sleep
