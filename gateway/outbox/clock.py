"""Wall time that never runs backwards within a process: what is due must not wait for a clock that was set back."""

import time

from gateway.delivery import Clock


def steady_clock() -> Clock:
    """Make a clock: epoch seconds as they were now, going on with the monotonic clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
