r"""Chain of Thought: nine question sets with rationales, as FLAN published them and Alpaca-CoT converts them.

The source (github.com/PhoebusSi/Alpaca-CoT, data/origin_cot_data, ODC-By) has a table a set, SET_train.tsv, without a head:
question (with its options), answer, rationale; a line break within a text stands as a backslash and an n. A real row of
qasc: "What comes from reproduction?\nOptions:\n- (A) babies\n- (B) protein ...", "(H)", "Reproduction is the process by
which living things give rise to offspring. ...".

Differs from the source (its formating.py), in `mode: clean`: quotation marks are text and not csv's quotes (which there
disappear from 975 rows of creak), line breaks are decoded (there, every row with options keeps a literal backslash and n),
and outer white space goes. In both modes a template is drawn by a seed, and a record says which. `mode: legacy` parses as
the source does, so that with its templates every record is one that the source could have written.
"""

import difflib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from errata.corpus.cot_table import read_rows
from errata.corpus.cot_templates import load_templates
from errata.digests import digest
from errata.errors import ConfigError, DataError
from errata.identity import neutral
from errata.records import Pair

log = logging.getLogger(__name__)

PUBLISHED = {
    "aqua": 2728, "creak": 6915, "ecqa": 7112, "esnli": 36174, "gsm8k": 7473, "qasc": 1084, "qed": 5154,
    "sensemaking": 6070, "strategyqa": 2061,
}  # fmt: skip
"""Rows of each set; those of esnli and qed follow from the others and from the total, 74,771."""
MODES = ("clean", "legacy")
_HOME = "github.com/PhoebusSi/Alpaca-CoT, data/origin_cot_data"


@dataclass
class CoT:
    """Rows of question, answer and rationale, each filled into one of its set's templates; the rationale comes first.

    A row that lacks its question, answer or rationale has an empty instruction or output, in clean mode.

    Attributes:
        path: the folder with the SET_train.tsv files, or one such file.
        sets: which of them, in which order; [] for all that are there.
        mode: clean, or legacy (what the source's parsing makes of the rows, its two defects with it).
        templates: null for ours; else a folder of SET.json files, or a Python file like the source's.
        seed: decides, with a row's set and number, which template it gets.
        limit_per_set: at most so many rows of each set, the first ones.
        rows: published records; null for what is known of the chosen sets.
        languages, licence: what each record says of itself.
    """

    path: str | None = None
    sets: list[str] = field(default_factory=list)
    mode: str = "clean"
    templates: str | None = None
    seed: int = 0
    limit_per_set: int | None = None
    rows: int | None = neutral(None)
    languages: str = "en"
    licence: str = "ODC-By-1.0 (the sets have licences of their own)"

    def __post_init__(self) -> None:
        if self.rows is None:
            self.rows = sum(PUBLISHED.get(name, 0) for name in dict.fromkeys(self.sets or PUBLISHED))

    def problems(self, name: str) -> list[str]:
        """An unknown set or mode, files that are not there, and templates that cannot be filled."""
        found = []
        if self.mode not in MODES:
            found.append(f"{name}.mode is {self.mode!r}: choose {' or '.join(MODES)}")
        if self.limit_per_set is not None and self.limit_per_set < 1:
            found.append(f"{name}.limit_per_set is {self.limit_per_set}: choose 1 or more, or null for every row")
        unknown = [chosen for chosen in self.sets if chosen not in PUBLISHED]
        for chosen in unknown:
            near = difflib.get_close_matches(chosen, PUBLISHED, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            found.append(f"{name}.sets has no set {chosen!r}: choose among {', '.join(PUBLISHED)}.{hint}")
        if self.path is None:
            found.append(f"{name}.path is not set: name the folder that holds the SET_train.tsv files ({_HOME})")
        if unknown or self.path is None:
            return found
        try:
            load_templates(self._files(), self.templates)
        except DataError as error:
            found.append(f"{name}.path: {error}")
        except ConfigError as error:
            found += [f"{name}.templates: {problem}" for problem in error.problems]
        return found

    @property
    def fingerprint(self) -> str:
        """Hash over the tables' bytes and the templates' texts."""
        files = self._files()
        templates = load_templates(files, self.templates)
        parts = []
        for name, file in files.items():
            with file.open("rb") as content:
                table = hashlib.file_digest(content, "sha256").hexdigest()
            parts.append([name, table, [[form.question, form.answer] for form in templates[name]]])
        return digest(parts)

    @property
    def location(self) -> str:
        """The folder or file."""
        return self.path or _HOME

    def pairs(self, name: str) -> Iterator[Pair]:
        """The rows set by set; ids are `NAME/SET/ROW`, counted from 0.

        Raises:
            DataError: no table, or a line without three columns; names the file and the line.
            ConfigError: a set without templates, or one that cannot be filled.
        """
        files = self._files()
        templates = load_templates(files, self.templates)
        if absent := [one for one in PUBLISHED if one not in files and not self.sets]:
            log.info("%s: %s are read; not there: %s", name, ", ".join(files), ", ".join(absent))
        for set_name, file in files.items():
            forms = templates[set_name]
            count = 0
            for question, answer, rationale in read_rows(file, self.mode == "legacy"):
                if count == self.limit_per_set:
                    break
                form = forms[int(digest([self.seed, set_name, count]), 16) % len(forms)]
                instruction, output = form.fill(question, answer, rationale)
                if self.mode == "clean":
                    instruction, output = (instruction if question else ""), (output if answer and rationale else "")
                yield Pair(
                    f"{name}/{set_name}/{count}", instruction, "", output, name, self.languages, self.licence,
                    skill=set_name, template=form.id,
                )  # fmt: skip
                count += 1
            if self.limit_per_set is None and count != PUBLISHED.get(set_name, count):
                log.warning("%s has %d rows, the published %s has %d", file, count, set_name, PUBLISHED[set_name])

    def _files(self) -> dict[str, Path]:
        """The table of each set.

        Raises:
            DataError: there is none, or one of the chosen is missing.
        """
        place = Path(self.path or "").expanduser()
        if not self.path or not place.exists():
            raise DataError(f"{self.path}: no such file or folder; give the folder with the SET_train.tsv files ({_HOME})")
        if place.is_file():
            named = [place.stem.removesuffix("_train")]
            names = list(dict.fromkeys(self.sets)) or [name for name in named if name in PUBLISHED]
            if len(names) != 1 or (named != names and named[0] in PUBLISHED):
                raise DataError(f"{place}: is one table; name it SET_train.tsv, or say which set it is with sets=[SET]")
            return {names[0]: place}
        there = {name: place / f"{name}_train.tsv" for name in PUBLISHED if (place / f"{name}_train.tsv").is_file()}
        if not there:
            raise DataError(f"{place}: holds no SET_train.tsv; SET is one of {', '.join(PUBLISHED)} ({_HOME})")
        if missing := [name for name in self.sets if name not in there]:
            files = ", ".join(f"{name}_train.tsv" for name in missing)
            raise DataError(f"{place}: holds no {files}; choose among {', '.join(there)}, or [] for all of these")
        return {name: there[name] for name in self.sets or there}
