"""Some steps of a small PSALM, in one process or in several started by torchrun; the first writes what it saw.

python two_processes.py DATA OUT TASK STEPS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[1])]

from psalming import psalm_model, psalm_run  # noqa: E402

from anygrain.data.psalm_tasks import PSALMBatchConfig  # noqa: E402
from anygrain.models.psalm.config import LossConfig  # noqa: E402
from anygrain.train import trainer  # noqa: E402
from anygrain.train.optim import OptimConfig  # noqa: E402


def main(data: str, out: str, task: str, steps: str) -> None:
    torch.set_num_threads(1)
    trainer._draw = lambda out_dir: None
    model = psalm_model(loss=LossConfig(points=16384))  # so many points that which ones they are hardly matters
    batch = PSALMBatchConfig(tasks={task: 1.0}, categories=4, sentences=1)
    optim = OptimConfig(lr=1e-3, image_lr_factor=1.0, schedule="constant", grad_clip=1.0, ema_decay=0.9)
    run = psalm_run(
        model=model.config, batch=batch, data=(data,), steps=int(steps), optim=optim, checkpoint_every=2,
        freeze=("projector.", "image_encoder."),
    )  # fmt: skip
    seen = []

    def evaluate(model, step):
        seen.append(step)
        return {"width": float(model.query_proj.weight.shape[0])}

    own = trainer.Trainer(run, model, out, evaluate=evaluate)
    own.train()
    if own.processes.first:
        (Path(out) / "seen.json").write_text(json.dumps({"evaluated": seen, "processes": own.processes.count}))
    if own.processes.count > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
