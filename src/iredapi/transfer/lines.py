"""The lines of a file that arrives in pieces, and the records in them. Memory is constant."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from iredapi.errors import ApiError, InvalidRequest, TooLarge

MAX_LINE: Final = 1024 * 1024
"""Maximum bytes of a line: a list with ten thousand members has 300 kB."""
_PIECE: Final = 64 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_MARKS: Final = (",", ";", "\t")


class FileFormat(StrEnum):
    """Formats of a file."""

    NDJSON = "ndjson"
    CSV = "csv"


class Line(NamedTuple):
    """A line with its number, from 1."""

    number: int
    text: bytes | None
    """Without its end; None: it was too long."""


class Entry(NamedTuple):
    """What a line says."""

    number: int
    record: Mapping[str, Any]
    problem: ApiError | None = None
    """Why it is no record."""


@dataclass(slots=True)
class Lines:
    """Splits pieces of a file into lines."""

    limit: int = MAX_LINE
    """Maximum bytes of a line."""
    number: int = 0
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    def feed(self, piece: bytes) -> Iterator[Line]:
        """Return the lines that end in this piece."""
        *whole, rest = piece.split(b"\n")
        for text in whole:
            self._keep(text)
            yield from self._taken()
        self._keep(rest)

    def end(self) -> Iterator[Line]:
        """Return the last line, if the file does not end with a line feed."""
        if self._size:
            yield from self._taken()

    def _keep(self, text: bytes) -> None:
        self._size += len(text)
        if self._size <= self.limit:
            self._parts.append(text)
        else:
            self._parts.clear()

    def _taken(self) -> Iterator[Line]:
        self.number += 1
        size, text = self._size, b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self.number == 1:
            text = text.removeprefix(_BOM)
        if size > self.limit:
            yield Line(self.number, None)
        else:
            yield Line(self.number, text)


class Gunzip:
    """Decompresses a gzip file piece by piece; each piece of the result is small."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Return what this piece holds. Raises InvalidRequest."""
        try:
            while piece:
                yield self._inflate.decompress(piece, _PIECE)
                piece = self._inflate.unconsumed_tail
                if not piece and self._inflate.eof and self._inflate.unused_data:
                    # Several files, one behind the other, are one (RFC 1952).
                    piece = self._inflate.unused_data
                    self._inflate = zlib.decompressobj(wbits=31)
        except zlib.error:
            raise InvalidRequest(detail="The body is not gzip, as it says.") from None

    def end(self) -> None:
        """Raise InvalidRequest if the file is not complete."""
        if not self._inflate.eof:
            raise InvalidRequest(detail="The gzip body ends early.")


@dataclass(slots=True)
class Reader:
    """Makes records of lines. ``format`` None: NDJSON if the first line begins with a brace."""

    format: FileFormat | None = None
    usual_type: str = "user"
    """The type of records of a CSV file without such a column."""
    header: Sequence[str] = ()
    _mark: str = ","
    _held: list[bytes] = field(default_factory=list)
    """The lines of a row of a CSV file whose quoted text goes on in the next line."""
    _held_from: int = 0
    """The number of the first of them; 0: no quoted text is open."""
    _held_size: int = 0

    def read(self, lines: Iterable[Line]) -> Iterator[Entry]:
        """Return the records; blank lines are none. Raises InvalidRequest for a wrong header."""
        for line in lines:
            if line.text is not None and not self._held_from and not line.text.strip():
                continue
            if self.format is None:
                begins = (line.text or b"").lstrip()[:1]
                self.format = FileFormat.NDJSON if begins == b"{" else FileFormat.CSV
            if line.text is None:
                self._release()
                yield _too_long(line.number)
            elif self.format is FileFormat.NDJSON:
                yield _of_json(line.number, line.text)
            else:
                yield from self._of_csv(line.number, line.text)

    def end(self) -> Iterator[Entry]:
        """Report a row that is not complete."""
        if self._held:
            yield _wrong(self._held_from, "The quoted text does not end.")

    def _of_csv(self, number: int, text: bytes) -> Iterator[Entry]:
        if not self.header and not self._held_from:
            self._mark = max(_MARKS, key=text.decode("latin-1").count)
        if is_open(text, self._mark.encode(), quoted=bool(self._held_from)):
            yield from self._hold(number, text)
            return
        if self._held_from:
            number, too_long = self._held_from, self._held_size + len(text) > MAX_LINE
            was_told = self._held_size > MAX_LINE
            text = b"\n".join((*self._held, text))
            self._release()
            if too_long:
                if not was_told:
                    yield _too_long(number)
                return
        yield from self._row(number, text)

    def _hold(self, number: int, text: bytes) -> Iterator[Entry]:
        """Keep a line until the quoted text ends; of a row that is too long keep nothing."""
        self._held_from = self._held_from or number
        was_told = self._held_size > MAX_LINE
        self._held_size += len(text) + 1
        if self._held_size <= MAX_LINE:
            self._held.append(text)
        elif not was_told:
            self._held.clear()
            yield _too_long(self._held_from)

    def _release(self) -> None:
        self._held, self._held_from, self._held_size = [], 0, 0

    def _row(self, number: int, text: bytes) -> Iterator[Entry]:
        try:
            decoded = text.decode("utf-8").rstrip("\r")
            (cells,) = csv.reader([decoded], delimiter=self._mark, strict=True)
        except (UnicodeDecodeError, csv.Error, ValueError):
            if not self.header:
                raise InvalidRequest(detail="The header line is not CSV in UTF-8.") from None
            yield _wrong(number, "The line is not CSV in UTF-8.")
            return
        if not self.header:
            self._take_header(cells)
        elif len(cells) != len(self.header):
            yield _wrong(number, f"{len(cells)} fields, but {len(self.header)} in the header line.")
        else:
            # An empty field says nothing.
            record = {key: cell for key, cell in zip(self.header, cells, strict=True) if cell}
            if record:
                yield Entry(number, {"type": self.usual_type} | record)

    def _take_header(self, cells: Sequence[str]) -> None:
        names = [cell.strip() for cell in cells]
        if len(set(names)) < len(names) or "" in names:
            raise InvalidRequest(detail="The header line has a name twice, or an empty one.")
        self.header = names


def is_open(text: bytes, mark: bytes, *, quoted: bool) -> bool:
    """Tell whether a quoted field of a CSV file goes on behind a line.

    ``quoted``: whether the line begins inside of one. A quote in the middle of a field is a letter.
    """
    if b'"' not in text:
        return quoted
    at, begins = 0, True
    while True:
        if quoted:
            at = text.find(b'"', at) + 1
            if not at:
                return True
            if text.startswith(b'"', at):
                at += 1
            else:
                quoted = begins = False
        elif begins and text.startswith(b'"', at):
            at, quoted = at + 1, True
        else:
            at, begins = text.find(mark, at) + 1, True
            if not at:
                return False


def _of_json(number: int, text: bytes) -> Entry:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _wrong(number, f"The line is not JSON: {error}."[:200])
    if not isinstance(record, dict):
        return _wrong(number, "The line is not a JSON object.")
    return Entry(number, record)


def _wrong(number: int, detail: str) -> Entry:
    return Entry(number, {}, InvalidRequest(detail=detail))


def _too_long(number: int) -> Entry:
    return Entry(number, {}, TooLarge(detail=f"A line has at most {MAX_LINE} bytes."))
