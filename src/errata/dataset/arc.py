"""ARC-Challenge: science questions of grades 3 to 9 (AI2, CC-BY-SA-4.0), 1,172 of them for testing.

A real item: "An astronomer observes that a planet rotates faster after a meteorite impact. Which is the most likely effect
of this increase in rotation?", A. Planetary density will decrease. B. Planetary years will become longer. C. Planetary days
will become shorter. D. Planetary gravity will become stronger. The answer is C. 22 questions have the labels 1 to 4 and
three have an option E: under `paper`, which looks for the letters A to D only, those golds are never found by their label.
"""

from dataclasses import dataclass

from errata.dataset.multiple_choice import MultipleChoice
from errata.errors import DataError
from errata.record_files import Record
from errata.records import Question


@dataclass
class ARC(MultipleChoice):
    """ARC: `question`, `answer`, and the options as one field a label (`label` lists them), or as the hub's `choices`."""

    @property
    def known_fields(self) -> tuple[str, ...]:
        """The required fields, the id, and both ways to give the options."""
        return (*self.required, "id", "label", "choices")

    def _mapped(self, record: Record, place: str) -> Record:
        if "answerKey" in record and "answer" not in record:  # as on the hub
            record = record | {"answer": record["answerKey"]}
        return super()._mapped(record, place)

    def question(self, record: Record, place: str, name: str, split: str) -> Question:
        """The labels are the item's own, digits included."""
        options = record.get("choices")
        if isinstance(options, dict):
            choices = dict(zip(map(str, options["label"]), options["text"], strict=True))
        else:
            labels = [str(label) for label in record.get("label") or ()]
            missing = [label for label in labels if record.get(label) is None]
            if missing or not labels:
                lack = f"option {', '.join(missing)} has no text" if missing else "there are no options (field 'label')"
                raise DataError(f"{place} ({name}): {lack}; it has {', '.join(record)}")
            choices = {label: record[label] for label in labels}
        return self._question(record, place, name, split, choices)
