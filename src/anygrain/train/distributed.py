"""Several processes that train one model, started by torchrun: each holds a part of weights, gradients and moments.

FSDP2 (``torch.distributed.fsdp.fully_shard``): a block's weights are gathered when it computes and let go after.
Without torchrun there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Processes:
    """This process among those of a run.

    rank: its number. count: how many there are. device: where it computes; "cuda" becomes the one of this process.
    """

    def __init__(self, device: torch.device):
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0)) if self.count > 1 else 0
        self.device = device
        if self.count == 1:
            return
        if device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, step: nn.Module, blocks: Iterable[nn.Module], whole: Iterable[nn.Parameter]) -> None:
        """Divide the weights of ``step``, each of the ``blocks`` by itself. whole: weights that every process keeps."""
        if self.count == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.count,))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(step, mesh=mesh, ignored_params=set(whole))

    @contextmanager
    def gathered(self, step: nn.Module) -> Iterator[None]:
        """Inside the ``with`` block every process has all weights of ``step``; blocks gather theirs when called."""
        if self.count > 1:
            step.unshard()  # type: ignore[operator]
        yield
        if self.count > 1:
            step.reshard()  # type: ignore[operator]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
            values = values / self.count
        return values

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def each(self, values: Tensor) -> list[Tensor]:
        """A tensor of every process, all of one shape, in order."""
        if self.count == 1:
            return [values]
        found = [torch.empty_like(values, device=self.device) for _ in range(self.count)]
        torch.distributed.all_gather(found, values.to(self.device))
        return [value.to(values.device) for value in found]

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the running statistics of the first."""
        if self.count > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process holds a part; all processes must ask together."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[operator]


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor, divided as ``like`` is."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Every process has the whole: nothing is sent.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
