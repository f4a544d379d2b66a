r"""Reading a chain-of-thought table: question, answer and rationale, parted by tabs, without a head.

A line break within a text stands as a backslash and an n. Only that is decoded: nothing else is escaped in these files, not
the backslash itself (aqua has `\therefore` and single backslashes), so that of two backslashes and an n one backslash stays.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from errata.errors import DataError
from errata.record_files import snippet


def read_rows(file: Path, legacy: bool) -> Iterator[tuple[str, str, str]]:
    """Question, answer and rationale of each row.

    Raises:
        DataError: a line without three columns, or one that is no UTF-8 text.
    """
    line = 0
    try:
        for line, columns in _split_quoted(file) if legacy else _split_plain(file):
            if columns in ([], [""]):  # an empty line
                continue
            if len(columns) != 3:
                hint = " or read quotation marks as text with mode=clean" if legacy else ""
                shown = snippet("\t".join(columns))
                raise DataError(
                    f"{file}, line {line}: expected three columns parted by tabs (question, answer, chain of thought), "
                    f"found {len(columns)}: {shown}. Mend the line or leave it out{hint}."
                )
            question, answer, rationale = columns
            yield question, answer, rationale
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text soon after line {line} ({error}). Save it as UTF-8.") from error
    except csv.Error as error:
        raise DataError(f"{file}, behind line {line}: {error}. mode=clean reads quotation marks as text.") from error


def _split_quoted(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and columns as the source reads them: csv with its usual quote character, escapes left as they are."""
    csv.field_size_limit(1 << 17)  # the library's, whatever was read before: it ends a quotation that is never closed
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t")
        for columns in reader:
            yield reader.line_num, columns


def _split_plain(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and columns; quotation marks are text, line breaks are decoded, outer white space goes."""
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            yield number, [text.replace("\\n", "\n").strip() for text in line.rstrip("\r\n").split("\t")]
