"""The row asks in the wanted language (py3langid, whose model is a part of the package)."""

import functools
import re
from dataclasses import dataclass
from typing import Any

from errata.gate.base import Context, EachRow
from errata.records import Example

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # Thai to Chinese
_WORD = re.compile(
    rf"[{_UNSPACED}]"
    rf"|(?<![^\s\"'“‘«(¿¡])(?![A-Z]\b)[^\W\d_{_UNSPACED}]+(?:['’-][^\W\d_{_UNSPACED}]+)*(?![^\s.,;:!?\"'”’»)…])"
)
_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass
class Language(EachRow):
    """Rejects `language`: a paragraph of the prompt is in another language.

    Each paragraph is judged by itself, so that an instruction in one language does not hide a question in another. Numbers,
    single capitals, formulas, names like `max_sum` and calls are left out; what then is too short is let through.

    Attributes:
        language: the wanted language, by its ISO 639 code.
        words: how many words a paragraph needs to be judged (in writing without spaces: letters).
        certainty: how probable it must be that the language is another one.
    """

    language: str = "en"
    words: int = 8
    certainty: float = 0.98

    def problems(self) -> list[str]:
        """An unknown language, or limits out of range."""
        found = []
        if self.language not in (known := sorted(_identifier().labels)):
            found.append(f"gate.language.language is {self.language!r}: choose one of {', '.join(known)}")
        if self.words < 1:
            found.append(f"gate.language.words is {self.words}: choose 1 or more")
        if not 0.5 <= self.certainty < 1:
            found.append(f"gate.language.certainty is {self.certainty}: choose 0.5 or more, and less than 1")
        return found

    def check(self, row: Example, context: Context) -> tuple[str, str] | None:
        """The first paragraph of the prompt that is in another language."""
        for paragraph in _PARAGRAPH.split(row.prompt):
            found = _WORD.findall(paragraph)
            if len(found) < self.words:
                continue
            ranked = dict(_identifier().rank(" ".join(found)))
            if 1 - ranked[self.language] >= self.certainty:
                most = next(iter(ranked))
                return "language", f"{most} rather than {self.language}: {' '.join(paragraph.split())[:200]}"
        return None


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
