"""A picture that is drawn over itself on a terminal, while lines scroll by above it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from rlrun.cli.output import unless_closed


class Picture:
    """Drawn by whoever calls, because a drawing thread would compete with the training. A terminal may go away at any time."""

    def __init__(self, console: Console, rendered: Callable[[], RenderableType], seconds_between_frames: float) -> None:
        self._console, self._rendered, self._seconds_between_frames = console, rendered, seconds_between_frames
        self._live = Live(console=console, auto_refresh=False)
        self._last_drawn = 0.0

    def start(self) -> None:
        with unless_closed():  # Live must not meet a dead terminal in its start, which would leave it half done
            self._console.show_cursor(False)
        with unless_closed():
            self._live.start()
            self.draw(force=True)

    def draw(self, force: bool = False) -> None:
        """Draw what is now, unless the last picture is too new."""
        now = time.monotonic()
        if force or now - self._last_drawn >= self._seconds_between_frames:
            self._last_drawn = now
            with unless_closed():
                self._live.update(self._rendered(), refresh=True)

    def print(self, line: str, style: str = "") -> None:
        """A line above the picture."""
        with unless_closed():
            self._console.print(Text(line, style=style))

    def finish(self) -> None:
        """Leave the last picture where it is."""
        if self._live.is_started:
            self.draw(force=True)
            with unless_closed():  # though the last picture failed: it gives stdout back
                self._live.stop()
