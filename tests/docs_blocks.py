"""The code blocks of README.md and docs/*.md: files that a page shows, and command lines with the place where they stand."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
_BLOCK = re.compile(r"(?:^`([^`\n]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(errata|make)\b(?! *[:=])")
_SYNOPSIS = re.compile(r" \[[^\]=]*\]")


@dataclass(frozen=True)
class Line:
    """A command as a page shows it, its continued lines joined; `in_passing`: in a sentence, where arguments may be left out."""

    place: str
    text: str
    in_passing: bool = False

    @property
    def words(self) -> list[str]:
        """What a shell would make of it, from the program's name on, without the explanation beside it."""
        text = _COMMAND.search(self.text).group(1) + self.text[_COMMAND.search(self.text).end() :]
        text = re.split(r"\s{2,}|\s#|\s\|\s|\s>\s", _SYNOPSIS.sub("", text))[0]
        return [word for word in shlex.split(text) if word != "..."]


def files(page):
    """The files that a page shows in full, by their names."""
    return {name: text for name, _, text in _BLOCK.findall(page.read_text()) if name}


def section(page, heading):
    """The text under a heading of the second rank."""
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL).group(1)


def commands(page, text=None):
    """Every line of a block that begins with `errata` or `make`, behind variables or not."""
    whole = page.read_text()
    found = []
    for block in _BLOCK.finditer(whole):
        if block.group(1) or block.group(2) not in ("", "sh", "bash", "console"):
            continue
        start = whole.count("\n", 0, block.start(3)) + 1
        lines = block.group(3).split("\n")
        for number, line in enumerate(lines):
            if _COMMAND.match(line) and not (number and lines[number - 1].endswith("\\")):
                joined = line
                for more in lines[number + 1 :]:
                    if not joined.endswith("\\"):
                        break
                    joined = joined[:-1].rstrip() + " " + more.strip()
                if text is None or line in text:
                    found.append(Line(f"{page.relative_to(ROOT)}:{start + number}", joined))
    return found


def mentions(page):
    """Every command that a sentence names, in backticks."""
    whole = re.sub(
        r"^```.*?^```$", lambda block: "\n" * block.group().count("\n"), page.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    return [
        Line(
            f"{page.relative_to(ROOT)}:{whole.count(chr(10), 0, found.start()) + 1}", " ".join(found.group(1).split()), True
        )
        for found in re.finditer(r"`((?:errata|make) [^`]+)`", whole)
    ]
