"""Reads what MySQL and MariaDB answer, from the stream of aiomysql's connection.

aiomysql waits twice for each packet and decodes the description of each column again for each
statement: reading a user costs 60 columns. Here an answer is parsed in the buffer in which it
arrives, and descriptions that were met before are only compared. The values are the same:
`tests/contract/test_mysql_results.py` compares them. The text protocol:
https://mariadb.com/kb/en/result-set-packets/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Final

from pymysql.constants import COMMAND, CR, FIELD_TYPE, SERVER_STATUS
from pymysql.converters import convert_date, convert_datetime, decoders, through
from pymysql.err import InternalError, OperationalError, raise_mysql_exception
from pymysql.protocol import FieldDescriptorPacket

Rows = Sequence[tuple[Any, ...]]
Convert = Callable[[str], Any]
"""Makes a value of the bytes of a column, which are given as Latin-1."""

_CHUNK: Final = 1 << 18
_ERROR, _NULL, _END = 0xFF, 0xFB, 0xFE
_LONGEST: Final = 0xFFFFFF
"""The payload of a packet that another packet continues."""
_WIDTHS: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}
_TEXTS: Final = frozenset(
    {
        FIELD_TYPE.BIT, FIELD_TYPE.BLOB, FIELD_TYPE.LONG_BLOB, FIELD_TYPE.MEDIUM_BLOB,
        FIELD_TYPE.STRING, FIELD_TYPE.TINY_BLOB, FIELD_TYPE.VAR_STRING, FIELD_TYPE.VARCHAR,
        FIELD_TYPE.GEOMETRY,
    }
)  # fmt: skip
"""The types whose character set says whether they are bytes (aiomysql's ``TEXT_TYPES``)."""
_BINARY: Final = 63
_KNOWN_HEADS: Final = 8
"""Maximum number of remembered descriptions with the same number of columns."""


def _mysql_datetime(value: str | bytes) -> datetime | None:
    # PyMySQL returns a value that it cannot convert as text.
    found = convert_datetime(value)
    return found if isinstance(found, datetime) else None


def _mysql_date(value: str | bytes) -> date | None:
    found = convert_date(value)
    return found if isinstance(found, date) else None


DECODERS: Final[Mapping[int, Any]] = {
    **decoders,
    FIELD_TYPE.DATETIME: _mysql_datetime,
    FIELD_TYPE.TIMESTAMP: _mysql_datetime,
    FIELD_TYPE.DATE: _mysql_date,
}
"""PyMySQL's conversions (``conv`` of a connection); a date that Python cannot represent is None."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The descriptions of a result's columns, as they are sent."""

    content: int
    mask: int
    """Without the numbers of the packets, which continue from result to result."""
    size: int
    converts: tuple[Convert | None, ...]
    """None: text in the encoding of the connection."""


def _datetime(fallback: Callable[[str], Any], value: str) -> Any:
    if len(value) == 19:
        try:
            return datetime.fromisoformat(value)
        except ValueError:  # 0000-00-00
            pass
    return fallback(value)


def _converted(encoding: str | None, convert: Callable[[Any], Any] | None, value: str) -> Any:
    raw = value.encode("latin-1")
    found = raw if encoding is None else raw.decode(encoding)
    return found if convert is None else convert(found)


def _convert_of(field: Any, connection_encoding: str) -> Convert | None:
    """Return the conversion of a column, as aiomysql chooses it."""
    kind = field.type_code
    encoding: str | None = "ascii"
    if kind == FIELD_TYPE.JSON:
        encoding = connection_encoding
    elif kind in _TEXTS:
        encoding = None if field.charsetnr == _BINARY else connection_encoding
    convert = DECODERS.get(kind)
    if convert is through:
        convert = None
    if convert is None and encoding == connection_encoding and encoding.startswith("utf8"):
        return None
    if convert is int:
        return int
    if kind in {FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP}:
        return partial(_datetime, partial(_converted, encoding, convert))
    return partial(_converted, encoding, convert)


class Results:
    """The answers to the statements of one connection, which are read one after the other."""

    _heads: Final[dict[tuple[str, int], list[_Head]]] = {}
    """By encoding and number of columns, for all connections."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._data = b""
        self._text = ""
        """``_data`` as Latin-1: a slice of it is a value in ASCII, without a conversion."""
        self._at = 0
        self.affected_rows = 0
        """Rows that the last statement without rows has matched or inserted."""
        self.has_next = False
        """Whether the answer of another statement of the same message follows."""
        self._converts: tuple[Convert | None, ...] = ()

    async def send(self, words: str) -> None:
        """Send one or several statements. Raises OperationalError."""
        if self._at < len(self._data):
            raise self._lost("the server has said something unasked")
        self.has_next = False
        connection = self._connection
        await connection._execute_command(
            COMMAND.COM_QUERY, words.encode(connection.encoding, "surrogateescape")
        )

    async def rows(self) -> Rows:
        """Read an answer; the rows of a statement without result are none.

        Raises the errors of PyMySQL.
        """
        found: list[tuple[Any, ...]] = []
        if await self.head():
            while await self.more(found, _CHUNK):
                pass
        return found

    async def head(self) -> bool:
        """Read the beginning of an answer; return whether ``more`` gives rows."""
        start, end = await self._packet()
        data = self._data
        if data[start] == 0:
            self.affected_rows, at = _number(data, start + 1)
            _, at = _number(data, at)
            self._note_status(data[at] | data[at + 1] << 8)
            return False
        if data[start] == _NULL:
            self._connection.close()
            raise InternalError("The server asks for a file.")
        count, _ = _number(data, start)
        encoding = self._connection.encoding
        heads = self._heads.setdefault((encoding, count), [])
        for head in heads:
            if end + head.size <= len(data):
                content = int.from_bytes(data[end : end + head.size], "little")
                if content & head.mask == head.content:
                    self._at = end + head.size
                    break
        else:
            head = await self._new_head(count, encoding)
            if len(heads) >= _KNOWN_HEADS:
                heads.pop(0)
            heads.append(head)
        self._converts = head.converts
        await self._packet()  # the end of the descriptions
        return True

    async def _new_head(self, count: int, encoding: str) -> _Head:
        content, mask, converts = bytearray(), bytearray(), []
        for _ in range(count):
            start, end = await self._packet()
            payload = self._data[start:end]
            converts.append(_convert_of(FieldDescriptorPacket(payload, encoding), encoding))
            content += len(payload).to_bytes(3, "little") + b"\0" + payload
            mask += b"\xff\xff\xff\0" + b"\xff" * len(payload)
        return _Head(
            int.from_bytes(content, "little"),
            int.from_bytes(mask, "little"),
            len(content),
            tuple(converts),
        )

    async def more(self, found: list[tuple[Any, ...]], count: int) -> bool:
        """Read up to about ``count`` rows of an answer; return whether others may follow.

        Exactly ``count``, unless the answer ends before.
        """
        converts = self._converts
        while count > 0:
            data, text, at = self._data, self._text, self._at
            size = len(data)
            while count and at + 4 < size:
                length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
                end = at + 4 + length
                first = data[at + 4]
                if end > size or length == _LONGEST or first == _ERROR:
                    break
                at += 4
                if first == _END and length < 9:
                    self._at = end
                    self._note_status(data[at + 3] | data[at + 4] << 8)
                    return False
                found.append(_row(data, text, at, converts))
                count -= 1
                at = end
            self._at = at
            if count:
                # Rows that the buffer does not hold whole, and errors.
                start, end = await self._packet()
                if self._data[start] == _END and end - start < 9:
                    self._note_status(self._data[start + 3] | self._data[start + 4] << 8)
                    return False
                found.append(_row(self._data, self._text, start, converts))
                count -= 1
        return True

    async def _packet(self) -> tuple[int, int]:
        """Read the next packet; return where its payload begins and ends. Raises its error."""
        # Most packets are in the buffer already: ``_need`` is called for the others only.
        if len(self._data) < self._at + 4:
            await self._need(4)
        data, at = self._data, self._at
        length = int.from_bytes(data[at : at + 3], "little")
        number = data[at + 3]
        if len(data) < at + 4 + length:
            await self._need(4 + length)
        part = length
        while part == _LONGEST:
            part = await self._join(length)
            length += part
        start = self._at + 4
        self._at = end = start + length
        if length and self._data[start] == _ERROR:
            if number == 0:
                raise self._lost("the server is stopping")
            raise_mysql_exception(self._data[start:end])
        return start, end

    async def _join(self, length: int) -> int:
        """Append the next packet's payload to this one's; return the length of the appended one."""
        await self._need(length + 8)
        behind = self._at + 4 + length
        more = int.from_bytes(self._data[behind : behind + 3], "little")
        await self._need(length + 8 + more)
        behind = self._at + 4 + length
        self._data = self._data[:behind] + self._data[behind + 4 :]
        self._text = self._data.decode("latin-1")
        return more

    async def _need(self, size: int) -> None:
        """Read until the buffer has so many bytes that were not parsed."""
        there = len(self._data) - self._at
        if there >= size:
            return
        parts = [self._data[self._at :]]
        reader = self._connection._reader
        while there < size:
            try:
                part = await reader.read(_CHUNK)
            except OSError as error:
                raise self._lost(str(error)) from error
            except BaseException:
                self._connection.close()
                raise
            if not part:
                raise self._lost("end of file")
            parts.append(part)
            there += len(part)
        self._data = b"".join(parts)
        self._text = self._data.decode("latin-1")
        self._at = 0

    def _note_status(self, status: int) -> None:
        self._connection.server_status = status
        self.has_next = bool(status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)

    def _lost(self, reason: str) -> OperationalError:
        self._connection.close()
        return OperationalError(
            CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({reason})"
        )


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length; return it and where the next value begins."""
    first = data[at]
    width = _WIDTHS.get(first, 0)
    if not width:
        return first, at + 1
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def _row(data: bytes, text: str, at: int, converts: Sequence[Convert | None]) -> tuple[Any, ...]:
    values: list[Any] = []
    for convert in converts:
        size = data[at]
        at += 1
        if size > 250:
            if size == _NULL:
                values.append(None)
                continue
            width = _WIDTHS[size]
            size = int.from_bytes(data[at : at + width], "little")
            at += width
        value = text[at : at + size]
        at += size
        if convert is not None:
            value = convert(value)
        elif not value.isascii():
            value = value.encode("latin-1").decode("utf-8")
        values.append(value)
    return tuple(values)
