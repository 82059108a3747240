"""Videos of runs, put into the page as long as they are small."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlrun.plain import open_regular, reason_of
from rlrun.reports.html.markup import Html, tag
from rlrun.reports.html.material import Member

MOST_BYTES = 3 << 20
MOST_BYTES_TOGETHER = 8 << 20
_FOLDER = "videos"


def videos_section(members: Sequence[Member]) -> Html | None:
    """A figure for each video in the runs' ``videos`` folders, and the names of those left out; None if there are none."""
    figures, left_out, total = [], [], 0
    for member in members:
        for path in _paths(member.record.directory):
            name = f"{member.record.name}/{_FOLDER}/{path.name}"
            try:
                content = read_video(path, min(MOST_BYTES, MOST_BYTES_TOGETHER - total))
            except ValueError as error:
                left_out.append(f"{name}: {error}")
                continue
            total += len(content)
            figures.append(_figure(path, name, content))
    if not figures and not left_out:
        return None
    rest = tag("ul", {"class": "note"}, *(tag("li", None, f"not in this file: {line}") for line in left_out))
    return tag("div", {"class": "videos"}, *figures, rest if left_out else None)


def read_video(path: Path, most: int) -> bytes:
    """The bytes of an MP4 or GIF. Raises ValueError with the reason why not."""
    try:
        with open_regular(path) as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(reason_of(error)) from error
    if len(content) > most:
        raise ValueError(f"too large (at most {MOST_BYTES >> 20} MB each and {MOST_BYTES_TOGETHER >> 20} MB in all)")
    right = content[4:8] == b"ftyp" if path.suffix == ".mp4" else content[:4] == b"GIF8"
    if not right:
        raise ValueError(f"its content is no {path.suffix[1:].upper()}")
    return content


def _paths(directory: Path) -> Iterator[Path]:
    """Regular files only: a link, or a folder that is one, could lead anywhere."""
    folder = directory / _FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError:
        return
    yield from (folder / name for name in names if name.endswith((".mp4", ".gif")))


def _figure(path: Path, name: str, content: bytes) -> Html:
    kind = "video/mp4" if path.suffix == ".mp4" else "image/gif"
    source = Html(f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}")  # its letters need no escape
    if path.suffix == ".mp4":
        shown = tag("video", {"controls": True, "preload": "metadata", "src": source, "title": name})
    else:
        shown = tag("img", {"src": source, "alt": f"recording {name}"})
    return tag("figure", None, shown, tag("figcaption", None, name))
