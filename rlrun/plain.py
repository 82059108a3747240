"""Plain files: written atomically, and read with suspicion, because run directories travel between people."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import stat
import unicodedata
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml

from rlrun.errors import ResumeError, StorageError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
_MAX_BITS = 14_000  # of a whole number: Python writes none of more than 4,300 digits, but YAML can read one

_TEMPORARY = re.compile(r"\.tmp-(\d+-\d+|export-\w+)")
_temporary_numbers = itertools.count()


def printable(text: object) -> str:
    """``str(text)`` without what could steer a terminal or break a line: control, format and surrogate characters."""
    return "".join(letter for letter in str(text) if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def reason_of(error: OSError) -> str:
    """The operating system's words for ``error``, without the errno and the file names around them."""
    return error.strerror or type(error).__name__


# --- writing ---------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, *chunks: bytes, durably: bool = True) -> int:
    """Make ``path`` hold exactly ``chunks``, or leave it untouched; returns the number of bytes written.

    The file becomes visible by a rename, after its bytes are on the disk, so that neither a kill nor a power loss can
    show half of it. Mode 0600. Not ``durably``: a power loss can, until the system has been told to write everything.

    Raises:
        StorageError: no space, no permission, no such folder, ...
    """
    try:
        temporary, descriptor = _open_temporary(path.parent)
        with contextlib.ExitStack() as held:
            try:
                try:
                    held.callback(os.close, os.dup(descriptor))  # so that nobody takes it for stale until it is renamed
                    for chunk in chunks:
                        write_all(descriptor, chunk)
                    if durably:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.rename(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        if durably:
            sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"can't write {printable(path)}: {reason_of(error)}") from error
    return sum(map(len, chunks))


def to_yaml(value: Any) -> bytes:
    """Plain values as YAML that ``read_yaml`` takes back: no aliases, keys in their order."""
    return yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, encoding="utf-8")


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``: one ``os.write`` may stop early, for instance just before the disk is full."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def refuse_other_names(descriptor: int) -> None:
    """Raises OSError: the open file has another name, a hard link: what is written to it here would change it there."""
    if os.fstat(descriptor).st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name (a hard link); put a copy in its place")


def is_temporary(name: str) -> bool:
    """Whether something of this name is what ``write_atomically`` or an export was writing."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_stale(directory: Path) -> None:
    """Delete the temporary files that killed processes left in ``directory``."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if is_temporary(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError), _holding(Path(entry.path)):
                    os.unlink(entry.path)


def is_stale(temporary: Path) -> bool:
    """Whether nobody is writing a temporary file any more, as far as that can be told."""
    with contextlib.suppress(OSError), _holding(temporary):
        return True
    return False


@contextlib.contextmanager
def _holding(temporary: Path) -> Iterator[None]:
    """Hold a temporary file in place of its writer. Raises OSError: that lives, or there is no such file."""
    descriptor = os.open(temporary, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _open_temporary(directory: Path) -> tuple[Path, int]:
    """A new file, and the descriptor that writes and holds it: until that is closed, or its process ends, it is not stale."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        temporary = directory / f".tmp-{os.getpid()}-{next(_temporary_numbers)}"
        try:
            descriptor = os.open(temporary, flags, 0o600)
            with contextlib.suppress(OSError):  # a file system that has no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return temporary, descriptor
            os.close(descriptor)  # somebody has taken it for a stale one before it was held
        except FileExistsError:  # process ids repeat, in containers always: take the next number
            continue
        except BaseException:  # a signal may come when it has just been made
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def sync_directory(directory: Path) -> None:
    """Wait until the names in ``directory`` are on the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The value in a small JSON file.

    Raises:
        ResumeError: unreadable, not a regular file, above 256 KiB, not UTF-8, not JSON, duplicate keys, too deep.
    """
    try:
        return parse_json(read_small(path))
    except ValueError as error:
        raise ResumeError(f"{printable(path)}: {error}") from error


def read_yaml(path: Path) -> Any:
    """The value in a small YAML file of plain values: no tags, no aliases, text keys only.

    Raises:
        ResumeError: as ``read_json``, and for tags and aliases.
    """
    try:
        return parse_yaml(read_small(path))
    except ValueError as error:
        raise ResumeError(f"{printable(path)}: {error}") from error


def parse_json(data: bytes) -> Any:
    """``data`` as JSON; raises ValueError with a one-line reason (see ``read_json``)."""
    text = _decode(data)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check(value)
    return value


def parse_yaml(data: bytes) -> Any:
    """``data`` as plain YAML; raises ValueError with a one-line reason (see ``read_yaml``)."""
    text = _decode(data)
    try:
        value = _PlainLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(where + printable(error.problem or "not YAML")) from error
    except yaml.YAMLError as error:
        raise ValueError(printable(str(error).partition("\n")[0])) from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check(value)
    return value


_TEXT = "tag:yaml.org,2002:str"
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader without aliases (they allow a bomb), tags, dates, merge keys, duplicate keys and non-text keys.

    ``1:30`` is text, and no number to the base of 60, which may be too large for a float.
    """

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        in_parts = kind is yaml.ScalarNode and ":" in (value or "")
        return _TEXT if in_parts else super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark, tag = event.start_mark, getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        if tag is not None:
            raise yaml.MarkedYAMLError(problem=f"tag {tag} is not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != _TEXT:
                raise yaml.MarkedYAMLError(problem="keys must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key '{key.value}'", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# A date is no plain value, and a config has none: what looks like one is text.
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def open_regular(path: Path) -> BinaryIO:
    """A regular file to read; never blocks on a pipe and never follows a link planted in its place. Raises OSError."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "no name of a file")
    file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115 handed on
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def read_small(path: Path) -> bytes:
    """At most ``MAX_BYTES`` of a file."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(reason_of(error)) from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 1024} KiB")
    return data


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"duplicate key '{printable(name)}'")
        result[name] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, depth: int = 1) -> None:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise ValueError(f"a whole number of more than {_MAX_BITS} bits")
    if not isinstance(value, dict | list):
        return
    if depth > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    for item in value.values() if isinstance(value, dict) else value:
        _check(item, depth + 1)
