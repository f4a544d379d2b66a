"""CoachLM (arXiv 2311.13246): a model that was trained on experts' revisions revises every pair.

Differs from the source: the decoding is greedy (its code always samples); pairs stand between markers that can be read back;
what is not revised whole, or offends a filter, is kept whole, with the reason; no row is known by its place in a file.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from errata.digests import fingerprint_folder
from errata.errors import ConfigError
from errata.model.base import TOO_LONG, Answer, Model
from errata.records import Pair, Prompt, Revision
from errata.reviser.base import KEPT, REVISED, AsksNobody, Desk
from errata.reviser.expert import REQUEST, coach_prompt, fingerprint
from errata.reviser.filters import Filters
from errata.reviser.markers import Malformed, read
from errata.trained import COACH

_ADAPTER = "adapter_config.json"


@dataclass
class Coach(AsksNobody):
    """A trained coach. Reasons to keep a pair: those of the markers and the filters, `too_long`, `no_answer`, `trained_on`
    and `history` (a conversation of several turns: the coach has learnt single ones).

    Attributes:
        folder: what `errata train revisions=FILE` has left: its run folder, or an adapter's or a model's folder.
        model: the coach itself, or what the adapter in `folder` goes on top of (None: the run's model):
            `model@reviser.model=endpoint`.
        max_new_tokens: room for an answer, the whole pair between its markers. Differs from the source: 513, in which 19
            of the experts' own revisions would be cut (by SmolLM2's tokenizer; the longest takes 764).
        keep_trained: pairs that the coach was trained on, as `coach.json` beside it names them, are kept as they are.
        filters: what a revision must not do.
    """

    folder: str | None = None
    model: Any = None
    max_new_tokens: int = 1024
    keep_trained: bool = True
    filters: Filters = field(default_factory=Filters)

    def problems(self) -> list[str]:
        """No coach, a folder that holds none, a base that is not the adapter's, or a limit that cannot be."""
        found = self.filters.problems()
        if self.max_new_tokens < 1:
            found.append(f"reviser.max_new_tokens is {self.max_new_tokens}: it must be at least 1")
        if self.folder is None and self.model is None:
            found.append(
                "reviser.folder is not set: give the folder of a trained coach (errata train revisions=FILE leaves one), "
                "or a model that is a coach already, model@reviser.model=..."
            )
        if self.folder is not None:
            found += self._folder_problems(self._place)
        if self.model is not None:
            found += self.model.problems() + self.base_problems(self.model)
        if not found and self.keep_trained:
            try:
                self._trained_on()
            except ConfigError as error:
                found += error.problems
        return found

    def base_problems(self, model: Model) -> list[str]:
        """Whether the adapter in the folder can go on top of a model: `problems` asks it of its own, a run of the run's."""
        if self.folder is None:
            return []
        if not model.trains:
            return ["reviser.folder needs a model whose weights are at hand to go with: choose one (model=hf)"]
        settings = self._place / _ADAPTER
        if not settings.is_file():
            return []
        try:
            made_for = json.loads(settings.read_bytes()).get("base_model_name_or_path")
        except (ValueError, AttributeError):
            return [f"reviser.folder {self._place}: its {_ADAPTER} is no JSON object; copy the folder again"]
        base = model.weights.base
        if not made_for or base == made_for or _alike(base, made_for):
            return []
        return [
            f"reviser.folder {self._place} is an adapter for {made_for}, the model is {base}: take the model that the coach "
            "was trained on (model=..., or model@reviser.model=... for the coach alone); if those are the same weights, "
            f"correct base_model_name_or_path in its {_ADAPTER}"
        ]

    def coach(self, model: Model) -> Model:
        """The coach, for a run with this model.

        Raises:
            ConfigError: the adapter is made for another one.
        """
        base: Model = self.model or model
        if self.folder is None:
            return base
        if problems := self.base_problems(base):
            raise ConfigError(problems)
        return base.with_weights(base.weights.after_training(self._place))

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """A revision of each pair, whole or not at all.

        Raises:
            ConfigError: the run's model is not the one that the coach goes on top of.
        """
        trained_on = self._trained_on() if self.keep_trained else frozenset()
        revisions: list[Revision | None] = []
        for pair in pairs:
            reason = "history" if pair.history else "trained_on" if fingerprint(pair) in trained_on else ""
            revisions.append(Revision(pair.id, pair, pair, KEPT, reason) if reason else None)
        asked = [pair for pair, known in zip(pairs, revisions, strict=True) if known is None]
        prompts = [Prompt(pair.id, coach_prompt(pair), question=pair.prompt) for pair in asked]
        answers = desk.answer("coach", self.coach(desk.model), prompts, self.max_new_tokens) if asked else []
        made = iter([self.revision(pair, answer) for pair, answer in zip(asked, answers, strict=True)])
        return [known or next(made) for known in revisions]

    def revision(self, pair: Pair, answer: Answer) -> Revision:
        """What the coach's answer makes of the pair."""

        def kept(reason: str, detail: str) -> Revision:
            return Revision(pair.id, pair, pair, KEPT, reason, detail, rejected=answer.text)

        if answer.failure == TOO_LONG:
            return kept("too_long", "the request with the pair does not fit the coach's context")
        if answer.failure is not None:
            return kept("no_answer", answer.failure)
        texts = read(answer.text, answer.finished)
        if isinstance(texts, Malformed):
            return kept(texts.reason, texts.detail)
        instruction, given, output = map(str.strip, texts)
        revised = replace(pair, instruction=instruction, input=given, output=output)
        found = self.filters.check(pair, revised, REQUEST)
        return Revision(pair.id, pair, revised, REVISED) if found is None else kept(*found)

    @property
    def _place(self) -> Path:
        """The folder itself, or the model in it where it is a run's."""
        folder = Path(self.folder or "").expanduser()
        return folder / "train" / "model" if (folder / "run.json").is_file() else folder

    def _folder_problems(self, place: Path) -> list[str]:
        """Whether there is a coach in the folder."""
        if not place.is_dir():
            left = "errata train revisions=FILE leaves a coach when it ends"
            return [f"reviser.folder is {self.folder!r}: {place} is not there; {left}"]
        names = sorted(path.name for path in place.iterdir())
        weights = any(name.endswith((".safetensors", ".bin")) for name in names)
        if weights and (_ADAPTER in names or "config.json" in names):
            return []
        lacking = "weights (*.safetensors)" if _ADAPTER in names or "config.json" in names else f"{_ADAPTER} or config.json"
        there = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "nothing"
        return [
            f"reviser.folder {place} holds no coach: no {lacking}; there is {there}. Give the run folder of errata train "
            "revisions=FILE once it has finished, or the folder with the adapter"
        ]

    def _trained_on(self) -> frozenset[str]:
        """Fingerprints of the pairs that the coach was trained on.

        Raises:
            ConfigError: no record says which they are.
        """
        remedy = "set reviser.keep_trained=false to revise those too"
        if self.folder is None:
            raise ConfigError([f"which pairs the coach was trained on is not known (no reviser.folder): {remedy}"])
        for folder in (self._place, self._place.parent):
            if (record := folder / COACH).is_file():
                try:
                    return frozenset(json.loads(record.read_bytes())["trained_on"])
                except (ValueError, KeyError, TypeError) as error:
                    raise ConfigError([f"{record} does not say which pairs the coach was trained on: {remedy}"]) from error
        raise ConfigError([f"no {COACH} in {self._place} or beside it, which names the pairs it was trained on: {remedy}"])


def _alike(base: str, made_for: str) -> bool:
    """Whether two names may be those of the same weights: of folders by what is in them, else by the last part."""
    folders = [Path(name).expanduser() for name in (base, made_for)]
    if all(folder.is_dir() for folder in folders):  # every run's is called `model`
        return fingerprint_folder(folders[0]) == fingerprint_folder(folders[1])
    return folders[0].name == folders[1].name
