"""Clicks on one photograph with Semantic-SAM: the plain procedure against ours, from the encoded image to masks in the
photograph's size. Plain: grid_sample level by level, every click decoded by itself, the memory projected for it in all
nine layers, masks of all nine layers, all six masks enlarged. Ours: what ``Segmenter.answer`` and ``propose`` do. Every
row runs in a process of its own, with random weights; prints seconds, their ratio and peak memory.

    python benchmarks/clicks.py                                # Swin-T, 640 x 864: 1, 16, 64 clicks, the 32 x 32 grid
    python benchmarks/clicks.py --tiny --clicks 1 4 --side 4   # a small network, to try the script itself
    python benchmarks/clicks.py --encode                       # also the image itself, plain and ours
"""

import argparse
import json
import resource
import subprocess
import sys
import time

SIZE = (640, 864)  # what the network sees of a photograph of 4:3, margin included; nothing is resized here
PLAIN_GRID = 64  # of the grid's clicks that the plain procedure is timed on


def build(tiny: bool):
    import torch

    from anygrain.models.layers import use_onednn
    from anygrain.models.pixel_decoder import PixelDecoderConfig
    from anygrain.models.semantic_sam import SemanticSAM
    from anygrain.models.semantic_sam_config import SemanticSAMConfig
    from anygrain.models.swin import SwinConfig
    from anygrain.segmenter import Segmenter

    config = SemanticSAMConfig.released_tiny()
    if tiny:
        swin = SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
        pixels = PixelDecoderConfig(hidden_dim=32, mask_dim=32, num_layers=1, num_heads=4, ffn_dim=32)
        config = SemanticSAMConfig(
            image_encoder=swin, pixel_decoder=pixels, input_size=96, num_layers=3, num_heads=4, ffn_dim=32
        )
    torch.manual_seed(0)
    network = SemanticSAM(config).eval().requires_grad_(False)
    network.mask_head.layers[-1].weight.mul_(10)  # so that masks have borders and not noise
    segmenter = Segmenter(use_onednn(network), {"name": "random", "fingerprint": "benchmark"})
    return segmenter, (96, 128) if tiny else SIZE


def photograph(size):
    import numpy as np
    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (size[0] // 32, size[1] // 32, 3), np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


def clicks(size, count):
    """Evenly spread places (x, y) in pixels."""
    return [((0.5 + 7919 * i % count) * size[1] / count, (0.5 + i) * size[0] / count) for i in range(count)]


def grid_sampled(value, places, weights, sizes, image_index=None):
    """``pixel_decoder.gather`` by PyTorch's own sampling, one level at a time, as official code without its kernel."""
    import torch
    from torch.nn import functional as F

    heads, start, parts = places.shape[2], 0, []
    value = value if image_index is None else value[image_index]
    for level, (height, width) in enumerate(sizes):
        here = value[:, start : start + height * width].unflatten(2, (heads, -1))
        here = here.permute(0, 2, 3, 1).reshape(len(value) * heads, -1, height, width)
        grid = 2 * places[:, :, :, level] / torch.tensor([width, height]) - 1
        grid = grid.transpose(1, 2).flatten(0, 1)
        parts.append(F.grid_sample(here, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
        start += height * width
    found = torch.stack(parts, -2).flatten(-2) * weights.flatten(-2).transpose(1, 2).flatten(0, 1)[:, None]
    return found.sum(-1).unflatten(0, (-1, heads)).permute(0, 3, 1, 2).flatten(2)


def plain(segmenter, embedding, points):
    """Click by click, with everything that the official network computes."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from anygrain.models.semantic_sam import Prompts

    network, memory = segmenter.model, plain.memory
    for point in points:
        with torch.inference_mode():
            values = torch.stack([layer.project_value(memory) for layer in network.layers], 1)
            features = (embedding.features[0], values)
            boxes, types = network.clicks(np.array([point]), embedding.resize)
            prompts = Prompts(boxes, types, torch.zeros(1, dtype=torch.long))
            layers = network.decode(features, prompts, all_layers=True)
            logits = [network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0]) for layer in layers]
            large = F.interpolate(logits[-1][:, None], embedding.resize.canvas, mode="bilinear", align_corners=False)
            yield (large[:, 0, : embedding.resize.content[0], : embedding.resize.content[1]] > 0).numpy()


def measure(arguments):
    """One row: seconds of the work, and the process's peak memory beyond what it had with the image encoded."""
    import torch

    from anygrain.everything import EverythingOptions
    from anygrain.models import pixel_decoder
    from anygrain.types import Prompt

    torch.set_num_threads(arguments.threads)
    segmenter, size = build(arguments.tiny)
    image = photograph(size)
    if arguments.way == "plain":
        pixel_decoder.gather = grid_sampled
        pixel_decoder._PLACES_AT_ONCE = 2**62
        network, kept = segmenter.model, []
        network.pixel_decoder.register_forward_hook(lambda _module, _inputs, out: kept.append(out.levels[::-1]))
    start, cpu = time.perf_counter(), time.process_time()
    (embedding,) = segmenter.embed([image])
    encode = {"encode_s": time.perf_counter() - start, "encode_cpu_s": time.process_time() - cpu}
    if arguments.way == "plain":
        plain.memory = torch.cat([level.flatten(2).transpose(1, 2) for level in kept[0]], 1).clone()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    points, scale, share = clicks(size, arguments.count), 1, None
    start, cpu = time.perf_counter(), time.process_time()
    if arguments.what == "grid" and arguments.way == "ours":
        everything = EverythingOptions(points_per_side=arguments.side, min_predicted_iou=arguments.sure)
        share = len(segmenter.propose(embedding, everything))
    elif arguments.way == "ours":
        for _ in segmenter.answer(embedding, [Prompt(points=(point,)) for point in points]):
            pass
    else:
        if arguments.what == "grid":
            scale = max(1, arguments.side**2 // PLAIN_GRID)
            points = clicks(size, arguments.side**2 // scale)
        for _ in plain(segmenter, embedding, points):
            pass
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"s": seconds * scale, "cpu_s": cpu_seconds * scale, "scaled": scale, "kept": share}
    print(json.dumps(row | encode | {"peak_mb": peak / 1024, "with_image_mb": before / 1024}))


def run(arguments, what, way, count=1, sure=-1e9):
    command = [sys.executable, __file__, "--row", "--what", what, "--way", way, "--count", str(count)]
    command += ["--side", str(arguments.side), "--threads", str(arguments.threads), f"--sure={sure}"]
    if arguments.tiny:
        command.append("--tiny")
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--side", type=int, default=32, help="clicks along each side of the grid; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--encode", action="store_true", help="also print what the image costs")
    parser.add_argument("--repeats", type=int, default=1, help="the fastest of so many runs counts")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=["clicks", "grid"], help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--sure", type=float, default=-1e9, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        measure(arguments)
        return

    def best(*row):
        return min((run(arguments, *row) for _ in range(arguments.repeats)), key=lambda result: result["s"])

    print(f"{'':22}{'plain s':>10}{'ours s':>10}{'ratio':>8}{'plain MB':>10}{'ours MB':>10}")
    results = {}
    for count in arguments.clicks:
        results[f"{count} clicks"] = [best("clicks", way, count) for way in ("plain", "ours")]
    if arguments.side:
        results[f"{arguments.side} x {arguments.side} grid"] = [best("grid", way) for way in ("plain", "ours")]
    for name, (slow, fast) in results.items():
        line = f"{name:22}{slow['s']:10.2f}{fast['s']:10.2f}{slow['s'] / fast['s']:8.1f}"
        print(line + f"{slow['peak_mb']:10.0f}{fast['peak_mb']:10.0f}")
        if fast["kept"] is not None:
            timed = arguments.side**2 // slow["scaled"]
            print(f"  plain was timed on {timed} clicks, times {slow['scaled']}; ours made and compared all of the")
            print(f"  {6 * arguments.side**2} masks, of which {fast['kept']} were stable and single")
    if arguments.encode:
        slow, fast = next(iter(results.values()))
        ratio = slow["encode_s"] / fast["encode_s"]
        print(f"{'the image, encoded':22}{slow['encode_s']:10.2f}{fast['encode_s']:10.2f}{ratio:8.1f}")


if __name__ == "__main__":
    main()
