"""The end of a thread that sends what a run has written elsewhere."""

import sys
import threading

SILENT_SECONDS = 2.0
"""Wait that needs no explanation."""


def join(thread: threading.Thread, timeout: float, doing: str) -> None:
    """Wait up to `timeout` seconds for a thread to end; after two seconds say on stderr what it does."""
    thread.join(min(SILENT_SECONDS, timeout))
    if thread.is_alive() and timeout > SILENT_SECONDS:
        sys.stderr.write(f"{doing} (for {timeout:g} s at most)\n")
        sys.stderr.flush()
        thread.join(timeout - SILENT_SECONDS)
