"""Many prompts on one photograph: the whole network once a prompt, as the official script does, against embed once and
decode the prompts in batches, with all that ``anygrain.load`` does to make a network fast. Prints seconds, their ratio
and peak memory; every row runs in a process of its own.

    python benchmarks/prompts.py                                   # released (random weights, full size) and nano
    python benchmarks/prompts.py --models nano --prompts 1 8 20 --repeats 3
    python benchmarks/prompts.py --device cuda --bf16 --compile
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

PHOTO = Path(__file__).parents[1] / "tests" / "fixtures" / "photos" / "facade.jpg"
TEXTS = [
    "all windows", "the building", "all people", "the sky", "the door", "the red car on the left",
    "the most salient object",
    "all balconies", "the street", "the tree", "all cars", "the roof", "the wall", "a traffic sign", "the shop",
    "the fence", "the bicycle", "all plants", "the chimney", "the person walking in front of the house",
]  # fmt: skip


def build(name: str, device: str, memory_limit: int | None):
    """A Segmenter as the weights come: nothing folded or replaced; random weights for the released network."""
    import torch

    from anygrain import hub
    from anygrain.models.clip_tokenizer import ClipTokenizer
    from anygrain.models.unilseg import UniLSeg, UniLSegConfig
    from anygrain.segmenter import Segmenter

    if name == "released":
        torch.manual_seed(0)
        model = UniLSeg(UniLSegConfig.released(), ClipTokenizer())
    else:
        model = hub.read_model(hub.find(name))
    model = model.eval().to(device).requires_grad_(False)
    return Segmenter(model, {"name": name, "fingerprint": "benchmark"}, memory_limit=memory_limit)


def as_official():
    """Undo what our network leaves out: all slots of padding, attention to words and feed-forward as written."""
    from anygrain.models import layers, unilseg

    layers.Attention.look_up = layers.Attention.forward
    layers._HIDDEN_AT_ONCE = 2**62
    unilseg.last_real = lambda real: real.shape[1]


def one_by_one(segmenter, texts):
    """The official procedure: photograph, image tower, text tower and head again for each prompt."""
    from anygrain.types import Prompt

    for text in texts:
        segmenter._answers._texts.clear()
        (embedding,) = segmenter.embed([PHOTO])
        for _ in segmenter.answer(embedding, [Prompt(text=text)]):
            pass


def embed_once(segmenter, texts):
    """Ours: the photograph and each text encoded once, prompts decoded in batches."""
    from anygrain.types import Prompt

    segmenter._answers._texts.clear()
    (embedding,) = segmenter.embed([PHOTO])
    for _ in segmenter.answer(embedding, [Prompt(text=text) for text in texts]):
        pass


def measure(way: str, name: str, count: int, arguments) -> dict:
    """Best of ``repeats`` runs after one warm-up, and the peak memory of this process."""
    import torch

    from anygrain.models.layers import fold_batch_norm, use_onednn

    segmenter = build(name, arguments.device, arguments.memory_limit)
    cuda = arguments.device.startswith("cuda")
    if way == "embed_once":
        use_onednn(fold_batch_norm(segmenter.model))
        segmenter.bf16 = arguments.bf16
        if arguments.compile:
            segmenter.model.decode = torch.compile(segmenter.model.decode, dynamic=True)
    else:
        as_official()
    run = {"one_by_one": one_by_one, "embed_once": embed_once}[way]
    texts = (TEXTS * (count // len(TEXTS) + 1))[:count]
    run(segmenter, texts[:1] if way == "one_by_one" else texts)
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        run(segmenter, texts)  # each answer ends as a mask in main memory, so nothing is still under way
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _peak_mb()
    return {"seconds": min(seconds), "peak_mb": peak}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["released", "nano"], help="released, nano or a model folder")
    parser.add_argument("--prompts", nargs="+", type=int, default=[1, 8, 20])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-limit", type=int, help="bytes for a batch of prompts, in our way (the default's)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 in our way")
    parser.add_argument("--compile", action="store_true", help="torch.compile in our way")
    parser.add_argument("--row", nargs=3, metavar=("WAY", "MODEL", "K"), help="measure one row and print JSON")
    arguments = parser.parse_args()
    if arguments.row:
        way, name, count = arguments.row
        print(json.dumps(measure(way, name, int(count), arguments)))
        return
    print(
        f"{'model':<12}{'K':>4}{'one by one':>14}{'embed once':>14}{'ratio':>8}{'a further prompt':>19}{'peak MB':>18}"
    )
    for name in arguments.models:
        first = None
        for count in arguments.prompts:
            slow, fast = (_child(way, name, count, arguments) for way in ("one_by_one", "embed_once"))
            first = first or (count, fast["seconds"])
            further = (fast["seconds"] - first[1]) / (count - first[0]) if count > first[0] else float("nan")
            print(
                f"{Path(name).name:<12}{count:>4}{slow['seconds']:>12.3f} s{fast['seconds']:>12.3f} s"
                f"{slow['seconds'] / fast['seconds']:>7.2f}x{further:>17.3f} s"
                f"{slow['peak_mb']:>9.0f} /{fast['peak_mb']:>6.0f}",
                flush=True,
            )


def _child(way: str, name: str, count: int, arguments) -> dict:
    flags = [flag for flag, wanted in (("--bf16", arguments.bf16), ("--compile", arguments.compile)) if wanted]
    command = [sys.executable, __file__, "--row", way, name, str(count), "--device", arguments.device, *flags]
    command += ["--repeats", str(arguments.repeats)]
    if arguments.memory_limit:
        command += ["--memory-limit", str(arguments.memory_limit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
