"""Ctrl-C and SIGTERM while training: the present step is finished and a checkpoint written; a second one does not wait."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interruption"]


class Interruption:
    """Whether somebody wants the training to end.

    Attributes:
        wanted: A signal came.
    """

    def __init__(self) -> None:
        self.wanted = False

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Inside the block signals are noted here; outside the main thread Python allows nobody to do so.

        Raises:
            KeyboardInterrupt: A second signal.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, _: FrameType | None) -> None:
            if self.wanted:
                raise KeyboardInterrupt
            self.wanted = True

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
