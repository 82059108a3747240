"""Pictures to MP4 and GIF, with the ffmpeg that imageio-ffmpeg brings."""

from __future__ import annotations

import math
import os
import subprocess
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from rlrun.errors import StorageError, UnavailableError
from rlrun.plain import printable, reason_of

GIF_FPS, GIF_WIDTH = 25, 480  # at most

_QUIET = ("-hide_banner", "-loglevel", "error", "-nostats", "-y")
# What browsers and phones play: H.264 with halved colours, which needs even sides, its index at the beginning of the file.
_H264 = (
    *("-an", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
    *("-preset", "veryfast", "-crf", "20", "-threads", "1", "-movflags", "+faststart"),
)


class Movie:
    """An MP4 file of pictures uint8 [H, W, 3], all of the size of the first. Use it in a ``with`` block, which ends ffmpeg."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        self.path, self.fps = path, fps
        self.pictures, self.height, self.width = 0, 0, 0
        self.blank = True  # every picture is of one colour
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Movie:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def add(self, picture: NDArray[np.uint8]) -> None:
        """One more picture. Raises StorageError, UnavailableError: there is no ffmpeg, or it has ended."""
        if self._process is None:
            self.height, self.width = picture.shape[:2]
            size = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{self.width}x{self.height}")
            self._process = _start(self.path, *size, "-framerate", str(self.fps), "-i", "-", *_H264)
        assert self._process.stdin is not None
        self.pictures += 1
        self.blank = self.blank and bool((picture == picture[0, 0]).all())
        try:
            self._process.stdin.write(np.ascontiguousarray(picture).data)
        except OSError:  # it has ended, and says why
            self.finish()
            raise StorageError(f"ffmpeg ended before {self.path.name} was complete") from None

    def finish(self) -> None:
        """Wait until the file is complete. Raises StorageError: it is not."""
        assert self._process is not None
        process, self._process = self._process, None
        _wait(process, self.path)


def to_gif(movie: Path, fps: Fraction, path: Path) -> None:
    """The same as a GIF of at most 25 pictures a second and 480 pixels width, in constant memory. Raises as ``Movie``."""
    slower = fps / math.ceil(fps / GIF_FPS)
    palette = path.with_suffix(".palette.png")
    smaller = f"fps={slower},scale='min({GIF_WIDTH},iw)':-1:flags=lanczos"
    source = ("-i", str(movie))
    _wait(_start(palette, *source, "-vf", f"{smaller},palettegen=stats_mode=diff", "-update", "1"), palette)
    colours = f"{smaller}[small];[small][1:v]paletteuse=dither=bayer:bayer_scale=5:diff_mode=rectangle"
    _wait(_start(path, *source, "-i", str(palette), "-lavfi", colours, "-loop", "0"), path)


def find_ffmpeg() -> str:
    """The path of ffmpeg. Raises UnavailableError."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError, OSError) as error:
        raise UnavailableError(
            "videos need ffmpeg, and there is none; install it: pip install imageio-ffmpeg"
        ) from error


def _start(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """ffmpeg writing ``path``; what it says goes into a file beside, since nobody reads it before the end."""
    command = (find_ffmpeg(), *_QUIET, *arguments, str(path))
    try:  # in a session of its own: Ctrl-C is for whoever uses it
        with open(_log_of(path), "wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
    except OSError as error:
        raise UnavailableError(f"can't start {printable(command[0])}: {reason_of(error)}") from error


def _wait(process: subprocess.Popen[bytes], path: Path) -> None:
    """Raises StorageError: it did not end well."""
    try:
        process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        lines = _log_of(path).read_text(errors="replace").split("\n") if _log_of(path).exists() else []
        said = [line for line in lines if line.strip()] or [_meaning(process.returncode)]
        raise StorageError(f"ffmpeg can't write {path.name}: {printable(said[-1]):.200}")


def _meaning(code: int) -> str:
    """An exit code of ffmpeg in words: its errors are those of the system, below 256."""
    return os.strerror(256 - code) if 128 < code < 256 else f"exit code {code}"


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")
