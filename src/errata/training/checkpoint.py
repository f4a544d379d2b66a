"""Checkpoints of a job: everything that an exact continuation needs, written in one step, the older ones pruned.

checkpoints/update_N/ holds `state.json` (place and identity), a file for each rank (its random numbers) and the training
state: `state.pt` of rank 0, or what DeepSpeed or FSDP leaves of each rank.
"""

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy, ModelParallelStrategy
from safetensors.torch import load_file, save_file

from errata.errors import TrainingError
from errata.training.strategies import engine, gathered


class Checkpoints(pl.Callback):
    """Saves behind every so many updates.

    Args:
        folder: where the checkpoints are.
        every: updates between two.
        keep: how many are kept.
        identity: what they belong to; see `Job.identity`.
        layout: strategy and ranks, which a sharded state depends on.
    """

    def __init__(self, folder: Path, every: int, keep: int, identity: dict[str, str], layout: str) -> None:
        self.folder, self.every, self.keep = folder, every, keep
        self.identity, self.layout = identity, layout

    def latest(self) -> Path | None:
        """The newest complete checkpoint, once it is seen to belong to this job.

        Raises:
            TrainingError: it was made with another model, other data or another setting; the message names it.
        """
        there = self._complete()
        if not there:
            return None
        state = json.loads((there[-1] / "state.json").read_text())
        theirs = state["identity"]
        names = sorted(name for name in {*theirs, *self.identity} if theirs.get(name) != self.identity.get(name))
        if state["layout"] != self.layout:
            names.append(f"strategy and ranks ({state['layout']} then, {self.layout} now)")
        if names:
            raise TrainingError(
                f"{there[-1]} is a checkpoint of another job; it differs in: {', '.join(map(_told, names))}. "
                f"Undo that, or remove {self.folder} to begin anew"
            )
        return there[-1]

    @staticmethod
    def updates_done(place: Path | None) -> int:
        """How far a checkpoint is (None: there is none)."""
        return 0 if place is None else int(json.loads((place / "state.json").read_text())["updates_done"])

    def restore(self, place: Path, trainer: pl.Trainer, module: Any) -> None:
        """Put everything back: weights, optimizer, schedule, counters, random numbers."""
        if isinstance(trainer.strategy, DeepSpeedStrategy):
            engine(trainer).load_checkpoint(
                str(place), tag="state", load_module_strict=False, load_lr_scheduler_states=False
            )
            state = torch.load(place / "rank_0.pt", map_location="cpu", weights_only=True)["common"]
        elif isinstance(trainer.strategy, ModelParallelStrategy):
            _load_sharded(place, trainer, module)
            state = torch.load(place / "rank_0.pt", map_location="cpu", weights_only=True)["common"]
        else:
            state = torch.load(place / "state.pt", map_location=module.device, weights_only=True)
            trained = dict(_trained(module))
            with torch.no_grad():
                for name, value in state["weights"].items():
                    trained[name].copy_(value)
            trainer.optimizers[0].load_state_dict(state["optimizer"])
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(state["schedule"])
        trainer.precision_plugin.load_state_dict(state["precision"])
        module.load_progress(state["module"])
        mine = torch.load(place / f"rank_{trainer.global_rank}.pt", map_location="cpu", weights_only=True)
        _set_random(mine["random"])

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save, when it is time."""
        if module.updates_done % self.every == 0 and module.updates_done < module.steps:
            self.save(trainer, module)

    def save(self, trainer: pl.Trainer, module: Any) -> None:
        """One checkpoint; it counts once it is complete."""
        final = self.folder / f"update_{module.updates_done}"
        partial = final.with_suffix(".partial")
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        trainer.strategy.barrier()
        common = {
            "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
            "module": module.progress(),
        }
        mine: dict[str, Any] = {"random": _random()}
        if isinstance(trainer.strategy, DeepSpeedStrategy):
            engine(trainer).save_checkpoint(str(partial), tag="state", exclude_frozen_parameters=True, save_latest=False)
            mine["common"] = common
        elif isinstance(trainer.strategy, ModelParallelStrategy):
            _save_sharded(partial, trainer, module)
            mine["common"] = common
        elif trainer.is_global_zero:
            weights = {name: parameter.detach() for name, parameter in _trained(module)}
            _write(partial / "state.pt", common | {"weights": weights, "optimizer": trainer.optimizers[0].state_dict()})
        _write(partial / f"rank_{trainer.global_rank}.pt", mine)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            state = {"updates_done": module.updates_done, "identity": self.identity, "layout": self.layout}
            with (partial / "state.json").open("w") as file:
                json.dump(state, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            self._prune()
        trainer.strategy.barrier()

    def _complete(self) -> list[Path]:
        """The checkpoints that count, the newest last; what a killed save has left is none."""
        there = [path for path in self.folder.glob("update_*") if path.suffix != ".partial"]
        return sorted(there, key=lambda path: int(path.name.partition("_")[2]))

    def _prune(self) -> None:
        for old in [*self._complete()[: -self.keep], *self.folder.glob("update_*.partial")]:
            shutil.rmtree(old)


class Best:
    """The weights with the lowest dev loss so far, kept beside the checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "best.safetensors"

    def keep(self, trainer: pl.Trainer, model: Any) -> None:
        """These are the best; every rank takes part."""
        state = gathered(trainer, model, whole=False)
        if state is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(".partial")
            save_file({name: value.contiguous() for name, value in state.items()}, partial)
            partial.replace(self.file)
        trainer.strategy.barrier()

    def read(self) -> dict[str, torch.Tensor]:
        """Them."""
        return load_file(self.file)


def _trained(module: Any) -> Sequence[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in module.model.named_parameters() if parameter.requires_grad]


def _write(path: Path, state: dict[str, Any]) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def _random() -> dict[str, Any]:
    python = random.getstate()
    numpy: Any = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [python[0], list(python[1]), python[2]],
        "numpy": [numpy[0], torch.from_numpy(numpy[1].astype(np.int64)), *numpy[2:]],
    }


def _set_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))


def _options() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(ignore_frozen_params=True, strict=False)


def _save_sharded(place: Path, trainer: pl.Trainer, module: Any) -> None:
    import torch.distributed.checkpoint as sharded
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model, optimizer = get_state_dict(module.model, trainer.optimizers[0], options=_options())
    sharded.save({"model": model, "optimizer": optimizer}, checkpoint_id=str(place / "state"))


def _load_sharded(place: Path, trainer: pl.Trainer, module: Any) -> None:
    import torch.distributed.checkpoint as sharded
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    model, optimizer = get_state_dict(module.model, trainer.optimizers[0], options=_options())
    state: dict[str, Any] = {"model": model, "optimizer": optimizer}
    sharded.load(state, checkpoint_id=str(place / "state"))
    set_state_dict(
        module.model,
        trainer.optimizers[0],
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=_options(),
    )


def _told(name: str) -> str:
    return {"data": "the rows (data)", "model": "the model", "dev": "the dev rows"}.get(name, name)
