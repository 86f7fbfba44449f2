"""PSALM at its released size with random weights, so without a download: seconds, operations and peak memory.

Weights are made on the meta device and filled in place, so there is one copy: 6.3 GB in float32, 3.2 in bfloat16.
Seconds are those of the processor on a CPU (OMP_NUM_THREADS=1, or they are the sum over threads).

    python benchmarks/psalm_full.py
    python benchmarks/psalm_full.py --bf16 --device cuda
"""

import argparse
import resource
import time
from contextlib import contextmanager, nullcontext

import psalm as small
import torch
from torch.utils.flop_counter import FlopCounterMode


def build(device: str, bf16: bool):
    """The released network, every weight from a normal distribution of width 0.02, norms as new ones are."""
    from anygrain.models.layers import WithoutInit
    from anygrain.models.psalm.config import PSALMConfig
    from anygrain.models.psalm.network import PSALM

    with torch.device("meta"), WithoutInit():
        model = PSALM(PSALMConfig.released(), small.Words()).eval().requires_grad_(False)
    model = model.to(torch.bfloat16 if bf16 else torch.float32).to_empty(device=device)
    block = torch.empty(2**16, device=device).normal_(generator=torch.Generator(device).manual_seed(0)) * 0.02
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.fill_(1)
        elif tensor.is_floating_point():
            flat = tensor.view(-1)
            for part in flat.split(len(block)):
                part.copy_(block[: len(part)])
        else:
            tensor.zero_()
    return model


def main() -> None:
    from anygrain.models.psalm.network import Features
    from anygrain.segmenter import Segmenter
    from anygrain.types import Prompt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="weights and arithmetic in bfloat16")
    arguments = parser.parse_args()
    cuda = arguments.device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time

    @contextmanager
    def step(what: str):
        counter = FlopCounterMode(display=False)
        start, wall = clock(), time.perf_counter()
        with counter if what[0].islower() else nullcontext():
            yield
        if cuda:
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(
            f"{what:<34}{clock() - start:>9.1f} s{time.perf_counter() - wall:>9.1f} s wall"
            f"{counter.get_total_flops() / 1e9:>10.0f} GFLOP{peak / 1e9:>8.2f} GB peak",
            flush=True,
        )

    with step("Building"):
        model = build(arguments.device, arguments.bf16)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{count:,} parameters of the network, {model.mask_tokens.dtype}", flush=True)
    segmenter = Segmenter(model, {"name": "random", "fingerprint": ""}, presence_threshold=1e-6, bf16=arguments.bf16)
    with step("encode the picture"):
        (embedding,) = segmenter.embed([small.PHOTO])
    size = sum(level.numel() * level.element_size() for level in Features(*embedding.features))
    print(f"an embedding takes {size / 1e6:.0f} MB", flush=True)
    prompts = [Prompt(text=sentence) for sentence in small.SENTENCES[: arguments.sentences]]
    with step(f"ask {len(prompts)} sentence(s)"):
        predictions = list(segmenter.answer(embedding, prompts))
    assert all(bool(torch.tensor(prediction.scores).isfinite().all()) for prediction in predictions)


if __name__ == "__main__":
    main()
