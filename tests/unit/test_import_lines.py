"""The lines of an import: quoted texts of CSV, and files that are much larger than they look."""

from __future__ import annotations

import csv
import gzip
import io
import random
import time

from starlette.requests import Request
from starlette.types import Message

from iredapi.transfer.importing import GROUP
from iredapi.transfer.lines import MAX_LINE, Entry, FileFormat, Gunzip, Lines, Reader
from iredapi.web.import_body import ImportBody


def entries_of(text: bytes) -> list[Entry]:
    lines, reader = Lines(), Reader(FileFormat.CSV)
    found = [entry for line in lines.feed(text) for entry in reader.read([line])]
    found += reader.read(lines.end())
    return found + list(reader.end())


def test_quotes_are_understood_as_by_csv() -> None:
    """A quote in the middle of a field is a letter: it takes no other row along."""
    rows = b'mail,name\na@ex.com,5" disk\nb@ex.com,"x ""y"" z"\n'
    rows += b'c@ex.com,"two\n\nlines, one"\n\nd@ex.com,\n'
    found = entries_of(rows)
    assert [entry.record.get("name") for entry in found] == [
        '5" disk', 'x "y" z', "two\n\nlines, one", None
    ]  # fmt: skip
    assert [entry.number for entry in found] == [2, 3, 4, 8]
    rng = random.Random(19)
    for _ in range(500):
        text = "".join(rng.choice('ab",\n') for _ in range(30)).strip("\n") + "\nend,1\n"
        whole = list(csv.reader(io.StringIO(text)))
        made = entries_of(b"k1,k2\n" + text.encode())
        expected = [row for row in whole if len(row) == 2]
        read = [[e.record.get("k1", ""), e.record.get("k2", "")] for e in made if not e.problem]
        for row in read:
            assert row in expected, text
        wrong = any(entry.problem for entry in made)
        assert wrong or len(read) == len([row for row in expected if any(row)]), text


def test_a_quoted_text_that_does_not_end() -> None:
    """It costs no more than other lines, and it is one wrong row."""
    began = time.monotonic()
    found = entries_of(b'mail,name\na@ex.com,"x\n' + b"x\n" * (MAX_LINE // 2 - 100))
    assert time.monotonic() - began < 20
    assert [(entry.number, bool(entry.problem)) for entry in found] == [(2, True)]
    found = entries_of(b'mail,name\na@ex.com,"x\n' + b"x\n" * MAX_LINE + b'y"\nb@ex.com,B\n')
    codes = [entry.problem.code if entry.problem else entry.record["mail"] for entry in found]
    assert codes == ["REQUEST_TOO_LARGE", "b@ex.com"]


def test_gzip_in_pieces() -> None:
    rng = random.Random(19)
    for size in (0, 1, 65535, 65536, 65537, 300_000):
        whole = rng.randbytes(size // 2) + b"x" * (size - size // 2)
        packed, gunzip = gzip.compress(whole), Gunzip()
        made = b""
        for at in range(0, len(packed), 997):
            made += b"".join(gunzip.feed(packed[at : at + 997]))
        gunzip.end()
        assert made == whole


async def test_a_small_body_with_millions_of_lines_comes_in_groups() -> None:
    """Memory does not grow with what is packed: 3 KiB of gzip are a million lines."""
    packed = gzip.compress(b"{}\n" * 1_000_000)

    async def receive() -> Message:
        return {"type": "http.request", "body": packed, "more_body": False}

    headers = [(b"content-encoding", b"gzip")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    body = ImportBody(Request(scope, receive), FileFormat.NDJSON, "user")
    await body.begin()
    sizes = [len(group) async for group in body.entries()]
    assert sum(sizes) == 1_000_000
    # A piece of 64 KiB is read as a whole.
    assert max(sizes) < GROUP + 22_000
