"""A journal keeps whole records, whatever its process or disk does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raytrade.storage.journal import Journal


def test_records_come_back_and_a_torn_one_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "orders.journal"
    journal = Journal(path)
    journal.append([b"one", b""])
    journal.append([b"two" * 100])
    whole = path.read_bytes()
    for cut in range(len(whole) - 300, len(whole)):
        path.write_bytes(whole[:cut])
        assert Journal(path).read() == [b"one", b""]
    path.write_bytes(whole[:-1] + b"?")
    again = Journal(path)
    assert again.read() == [b"one", b""]
    again.append([b"three"])
    assert Journal(path).read() == [b"one", b"", b"three"]


def test_it_is_replaced_whole_and_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "orders.journal")
    journal.append([b"one", b"two"])
    journal.replace([b"both"])
    journal.append([b"more"])
    assert Journal(journal.path).read() == [b"both", b"more"]
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_has_not_taken_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "orders.journal")
    journal.append([b"one"])
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:5], at))
    with pytest.raises(OSError, match="only 5 of"):
        journal.append([b"two"])
    monkeypatch.undo()
    journal.append([b"three"])
    assert Journal(journal.path).read() == [b"one", b"three"]
