"""Run command lines in one process that notes everything it must not do. A program: ``guarded.py ROOT`` reads jobs from stdin.

A job is ``{"name": ..., "arguments": [[...], ...]}``; the answer to each is one line of JSON: exit codes, output, and what was noted.
Only below ROOT may anything be written. An audit hook stays for the life of a process, so it has one of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from typing import Any

MOST_MEMORY = 6 << 30  # of addresses; what is really used is reported
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pickle.find_class",
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "ctypes.dlopen", "pty.spawn", "webbrowser.open",
)  # fmt: skip
CHANGING = (
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

noted: list[str] = []
watching = False


def main(root: str) -> None:
    from rlrun.cli import main as rlrun

    root = os.path.realpath(root)
    sys.addaudithook(lambda event, arguments: note(root, event, arguments) if watching else None)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for line in sys.stdin:
        job = json.loads(line)
        answers = [run(rlrun, arguments) for arguments in job["arguments"]]
        print(
            json.dumps({"name": job["name"], "answers": answers, "noted": noted, "megabytes": megabytes()}), flush=True
        )
        noted.clear()


def megabytes() -> int:
    """The most memory that was used so far; getrusage would begin with that of the process that started this one."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024


def run(rlrun: Any, arguments: list[str]) -> dict[str, Any]:
    global watching
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        watching = True
        try:
            code = rlrun(arguments)
        finally:
            watching = False
    return {"arguments": arguments, "code": code, "out": out.getvalue(), "err": err.getvalue()}


def note(root: str, event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN:
        noted.append(f"{event} {arguments!r:.200}")
    elif event == "import" and "evil" in str(arguments[0]):
        noted.append(f"import {arguments[0]}")
    elif event == "exec" and getattr(arguments[0], "co_filename", "").startswith(root):
        noted.append(f"exec {arguments[0]!r:.200}")
    elif event == "compile" and "CANARY" in str(arguments[0]):
        noted.append(f"compile {arguments[0]!r:.200}")
    elif event == "open":
        note_opening(root, *arguments)
    elif event in CHANGING:
        folder = arguments[-1] if event != "os.truncate" else -1
        base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else ""  # what it is a name in
        for path in arguments[:2]:
            if isinstance(path, str | bytes | os.PathLike) and not inside(
                root, os.path.join(base, os.fsdecode(path)), True
            ):
                noted.append(f"{event} {path!r}")


def note_opening(root: str, path: Any, mode: str | None, flags: int) -> None:
    writes = (set(mode) & set("wax+")) if mode is not None else flags & WRITING
    if not writes or isinstance(path, int) or os.fsdecode(path) == os.devnull:
        return
    if not inside(root, os.fsdecode(path), bool(flags & (os.O_NOFOLLOW | os.O_EXCL))):
        noted.append(f"open {path!r} {mode} {flags}")


def inside(root: str, path: str, stops_at_link: bool) -> bool:
    """Whether what is opened is below root; a call that does not follow a link at the end opens the name itself."""
    parent, name = os.path.split(os.path.abspath(path))
    real = os.path.join(os.path.realpath(parent), name) if stops_at_link else os.path.realpath(path)
    return real == root or real.startswith(f"{root}{os.sep}")


if __name__ == "__main__":
    main(sys.argv[1])
