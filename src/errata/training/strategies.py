"""Where and how a job is spread: devices, ranks, and what of the training state they share out. One setting."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, SingleDeviceStrategy

from errata.errors import ConfigError
from errata.training.job import Job


@dataclass(frozen=True)
class Place:
    """Where the job runs: `cpu` or `cuda`, which devices of this machine, and how many machines."""

    kind: str
    devices: tuple[int, ...]
    nodes: int
    environment: Any

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return len(self.devices) * self.nodes

    @property
    def rank(self) -> int:
        """The number of this process, before Lightning has started."""
        if isinstance(self.environment, LightningEnvironment):
            return int(os.environ.get("LOCAL_RANK", 0)) + int(os.environ.get("NODE_RANK", 0)) * len(self.devices)
        return int(self.environment.global_rank())


def place(job: Job) -> Place:
    """The devices of a job: those that torchrun or srun has started a process for, else those that it names.

    Raises:
        ConfigError: there are not so many, or the rows of an update do not divide over them.
    """
    names = [name.strip() for name in job.device.split(",")]
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = "cuda" if names[0].startswith("cuda") or (names[0] == "auto" and there) else "cpu"
    if kind == "cuda" and not there:
        raise ConfigError([f"model.device is {job.device!r}: torch sees no GPU here"])
    environment: Any = LightningEnvironment()
    nodes = 1
    try:
        named = [int(name.partition(":")[2]) for name in names if ":" in name]
    except ValueError as error:
        raise ConfigError([f"model.device is {job.device!r}: choose auto, cpu, cuda, cuda:1 or cuda:0,cuda:1"]) from error
    dividing = (
        count for count in range(there, 0, -1) if job.batch_size % count == 0
    )  # as many GPUs as the rows divide over
    count = job.devices or len(named) or (next(dividing) if kind == "cuda" else 1)
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
        count = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // count
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # srun's alone: a batch script has SLURM_NTASKS as well
        try:
            environment = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise ConfigError([f"srun: {error}"]) from error
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", 1)))
        count = int(os.environ["SLURM_NTASKS"]) // nodes
    devices = tuple(named or range(count))
    if kind == "cuda" and (len(devices) < count or max(devices[:count]) >= there):
        raise ConfigError([f"training.devices is {count}: torch sees {there} GPUs here"])
    found = Place(kind, devices[:count], nodes, environment)
    if job.batch_size % found.ranks:
        near = sorted(range(1, job.batch_size + 1), key=lambda ranks: (abs(ranks - found.ranks), ranks))
        fitting = next(ranks for ranks in near if job.batch_size % ranks == 0)
        more = -(-job.batch_size // found.ranks) * found.ranks
        raise ConfigError(
            [
                f"training.batch_size is {job.batch_size}: its rows do not divide over {found.ranks} ranks. "
                f"Choose {more} rows, or {fitting} ranks (training.devices)"
            ]
        )
    if job.strategy == "one" and found.ranks > 1:
        raise ConfigError([f"training.strategy=one trains on one device; training.devices is {found.ranks}"])
    return found


def chosen(job: Job, where: Place) -> str:
    """The strategy's name, `auto` resolved: one device; on several ZeRO-2 for all weights, and DDP for a few."""
    if job.strategy != "auto":
        return job.strategy
    if where.ranks == 1:
        return "one"
    return "zero2" if job.method.whole else "ddp"


def strategy(name: str, job: Job, where: Place) -> Any:
    """Lightning's strategy of that name."""
    backend = "gloo" if where.kind == "cpu" else "nccl"
    if name == "one":
        device = torch.device("cpu") if where.kind == "cpu" else torch.device("cuda", where.devices[0])
        return SingleDeviceStrategy(device)
    if name == "ddp":
        return DDPStrategy(process_group_backend=backend)
    if name == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=where.ranks, tensor_parallel_size=1, save_distributed_checkpoint=False,
            process_group_backend=backend,
        )  # fmt: skip
    zero: dict[str, Any] = {"stage": int(name[4])}
    if name.endswith("offload"):
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": where.kind == "cuda"}
    config: dict[str, Any] = {
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if job.clip:
        config["gradient_clipping"] = job.clip
    kind = CPUDeepSpeed if where.kind == "cpu" else DeepSpeedStrategy
    return kind(config=config, process_group_backend=backend, exclude_frozen_parameters=True)


class CPUDeepSpeed(DeepSpeedStrategy):
    """DeepSpeed on a CPU, over gloo, with torch's own AdamW and no compiled op: ZeRO can be tried, and tested, anywhere."""

    def setup_environment(self) -> None:
        """As for any strategy; the base class takes CUDA only."""
        self.setup_distributed()

    def setup_distributed(self) -> None:
        """Start the process group; device numbers mean nothing here, and no shared-memory op is compiled."""
        import deepspeed.comm.torch

        deepspeed.comm.torch.build_shm_op = lambda: None
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def _setup_model_and_optimizer(self, model: Any, optimizer: Any, lr_scheduler: Any = None) -> tuple[Any, Any]:
        import deepspeed

        engine, optimizer, _, _ = deepspeed.initialize(
            args=Namespace(device_rank=self.local_rank),
            config=self.config,
            model=model,
            model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, optimizer


def shard(model: Any, mesh: Any, half: bool) -> None:
    """FSDP: each decoder layer, then the rest, shared out over the devices of the mesh; `half`: computed in bfloat16."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy()
    for module in list(model.modules()):
        if isinstance(module, torch.nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh, mp_policy=policy)
            break
    fully_shard(model, mesh=mesh, mp_policy=policy)


def engine(trainer: pl.Trainer) -> Any:
    """DeepSpeed's engine, or None."""
    return trainer.strategy.deepspeed_engine if isinstance(trainer.strategy, DeepSpeedStrategy) else None


@contextmanager
def before_pass(trainer: pl.Trainer, last: bool) -> Iterator[None]:
    """Around one forward and backward pass of several in an update: gradients are exchanged with the last."""
    found = engine(trainer)
    if found is not None:
        found.set_gradient_accumulation_boundary(last)
        found.optimizer.clear_backward_seen_flag()  # its own forward would; a step of Lightning's holds several passes
        yield
    elif isinstance(trainer.strategy, DDPStrategy) and not last:
        with trainer.strategy.block_backward_sync():
            yield
    else:
        yield


def gathered(trainer: pl.Trainer, model: Any, whole: bool) -> dict[str, torch.Tensor] | None:
    """The weights that are saved, put together on rank 0 (None elsewhere): all of them, or those that are trained."""
    wanted = {name for name, value in model.named_parameters() if whole or value.requires_grad}
    buffers: dict[str, Any] = {}
    if whole:  # a few models keep numbers that are not parameters
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        buffers = {name: value.cpu() for name, value in model.state_dict().items() if name not in parameters}
    if isinstance(trainer.strategy, ModelParallelStrategy):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = dict(get_model_state_dict(model, options=options))
    elif isinstance(trainer.strategy, DeepSpeedStrategy) and trainer.strategy.zero_stage_3:
        import deepspeed

        state = {}
        for name, value in model.named_parameters():
            if name in wanted:
                with deepspeed.zero.GatheredParameters([value]):
                    if trainer.is_global_zero:
                        state[name] = value.detach().cpu().clone()
    elif trainer.is_global_zero:
        state = {name: value.detach().cpu().clone() for name, value in model.named_parameters() if name in wanted}
    if not trainer.is_global_zero:
        return None
    return {name: value for name, value in state.items() if name in wanted} | buffers


def prepare_environment(kind: str) -> None:
    """What has to be said before DeepSpeed is imported."""
    if kind == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    if not sys.stderr.isatty():
        os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
