"""Plain values to text and back, text that is safe to show, and files that are being written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rlrun import plain
from rlrun.config import RunConfig, to_mapping
from rlrun.plain import parse_json, parse_yaml, printable, to_yaml, write_atomically


def test_yaml_keeps_plain_values() -> None:
    shared = [1, 2]
    values = {"a": shared, "b": shared, "date": "2025-01-01", "yes": "on", "x": 1e-5, "none": None, "long": "é " * 100}
    assert parse_yaml(to_yaml(values)) == values
    assert parse_yaml(b"day: 2025-01-01") == {"day": "2025-01-01"}
    assert parse_yaml(to_yaml(to_mapping(RunConfig()))) == to_mapping(RunConfig())
    assert parse_json(b'{"a": [1, null, true]}') == {"a": [1, None, True]}


@pytest.mark.parametrize("text", ["1:30", "1:30.5", "-1:2", "1" + 300 * ":59" + ".5"])
def test_a_number_to_the_base_of_60_is_text(text: str) -> None:
    assert parse_yaml(f"gamma: {text}\nname: 'a: b'".encode()) == {"gamma": text, "name": "a: b"}


def test_a_key_that_is_doubled_is_named() -> None:
    with pytest.raises(ValueError, match="duplicate key 'b'"):
        parse_json(b'{"a": {"x": 1}, "b": {"x": 2}, "c": 0, "b": 1, "a": 2}')


def test_a_key_is_doubled_once_among_many_in_few_comparisons() -> None:
    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Counted(number) for number in (*range(2000), 1999)]
    with pytest.raises(ValueError, match="duplicate key '1999'"):
        plain._unique([(name, 0) for name in names])
    assert Counted.compared < 10_000


def test_printable_leaves_nothing_that_steers_a_terminal() -> None:
    hostile = "a\x1b[2Jb\r\n\tc\x9b1md\x7fe\u202ef\u2028g\ud800h\0"
    assert printable(hostile) == "a[2Jbc1mdefgh"
    assert printable(Path("naïve 名")) == "naïve 名"


@pytest.mark.parametrize("number", ["0x" + "F" * 4000, "0b" + "1" * 15_000, "9" * 5000])
def test_a_number_that_python_could_not_write_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{,200}$"):
        parse_yaml(f"gamma: {number}".encode())
    assert parse_yaml(b"seed: 0xFF") == {"seed": 255}


def test_an_interruption_as_soon_as_the_file_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = os.open

    def interrupted(*arguments: Any) -> None:
        os.close(made(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_taken_for_stale_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plain.fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(plain.fcntl, "flock", real)
        plain.remove_stale(tmp_path)
        real(descriptor, operation)

    monkeypatch.setattr(plain.fcntl, "flock", late)
    assert plain.write_atomically(tmp_path / "file", b"x") == 1
    assert os.listdir(tmp_path) == ["file"]
