"""Many sentences about one photograph with PSALM: the official procedure against ours, in the same run. Prints seconds,
their ratio, and how far the answers are apart. Random weights: only time is measured, and that answers agree.

The official procedure: for each sentence the image encoder twice, the whole prompt through the language model, the
pixel decoder, masks of every decoder layer at stride 4, all queries' masks enlarged to the input and from there to the
photo. Ours: the photograph and the start of the prompt once, then all sentences together. On a CPU the seconds are
those of the processor, so that other programs do not count; use OMP_NUM_THREADS=1, or they are the sum over threads.

A trained network is sure of few queries and of most pixels, a random one of none, and then ours too has to enlarge
every query's mask to see which is the best. Scores' logits are therefore brought to mean 0 and standard deviation 3,
those of masks to 5 (``--spread``); about a fifth of the queries can then win, still more than with a trained network.
``--unsure`` leaves them as they are: the worst case. ``--count`` prints multiplications and additions, not seconds.

    python benchmarks/psalm.py                       # a small one at 256 and one of 160 M parameters at 512 pixels
    python benchmarks/psalm.py --models middle --input-size 1024 --sentences 1 8
    python benchmarks/psalm.py --models released --device cuda --bf16
"""

import argparse
import re
import time
import zlib
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "tests" / "fixtures" / "photos" / "facade.jpg"
WORDS = (
    "window", "door", "balcony", "roof", "wall", "person", "car", "sky", "tree", "sign", "lamp", "street", "shop",
    "stair", "fence", "plant",
)  # fmt: skip
SENTENCES = [f"the {word} on the {side} of the house" for side in ("left", "right") for word in WORDS]


def config_of(name: str, input_size: int | None):
    from anygrain.models.mask_decoder import MaskDecoderConfig
    from anygrain.models.pixel_decoder import PixelDecoderConfig
    from anygrain.models.psalm.config import LanguageConfig, PSALMConfig
    from anygrain.models.swin import SwinConfig

    if name == "released":
        return PSALMConfig(input_size=input_size or 1024)
    if name == "middle":
        return PSALMConfig(
            image_encoder=SwinConfig(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=12),
            language=LanguageConfig(vocab_size=10000, width=768, layers=12, num_heads=12, ffn_dim=3072),
            projector_planes=768,
            input_size=input_size or 512,
        )
    return PSALMConfig(
        image_encoder=SwinConfig(embed_dim=32, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), window_size=7),
        language=LanguageConfig(vocab_size=1000, width=192, layers=4, num_heads=4, ffn_dim=768),
        pixel_decoder=PixelDecoderConfig(
            hidden_dim=64, mask_dim=64, num_layers=3, ffn_dim=256, extra_level=False, order="coarse_to_fine"
        ),
        mask_decoder=MaskDecoderConfig(hidden_dim=64, mask_dim=64, num_queries=50, ffn_dim=256, layers=6),
        projector_planes=192,
        input_size=input_size or 256,
    )


def build(name: str, arguments):
    """A Segmenter with random weights; sentences as short words, as long in tokens as GPT-2's."""
    from anygrain.models.psalm.network import PSALM
    from anygrain.segmenter import Segmenter

    torch.manual_seed(0)
    model = PSALM(config_of(name, arguments.input_size), Words()).eval()
    torch.nn.init.normal_(model.mask_tokens)
    model = model.to(arguments.device).requires_grad_(False)
    return Segmenter(
        model,
        {"name": name, "fingerprint": ""},
        presence_threshold=1e-6,  # every mask is made, as in the official way
        bf16=arguments.bf16,
        memory_limit=arguments.memory_limit,
    )


def spread(segmenter, score_deviation: float, mask_deviation: float) -> None:
    """Centre and scale the logits of one sentence's queries, and scale those of their masks."""
    from anygrain.models.psalm.network import Features
    from anygrain.models.psalm.prompts import about_phrase

    model = segmenter.model
    (embedding,) = segmenter.embed([PHOTO])
    features, question = Features(*embedding.features), about_phrase(model.tokenizer, [SENTENCES[0]])
    with segmenter._how.arithmetic(model):
        (condition,) = model.consider(features, [question])
        (level,) = model.mask_decoder(condition.queries[None], model.remember(features), features.mask_features)
        head = model.condition_head["phrase"]
        said = head(level.queries[0]).float()
        deviation = ((said - said.mean(0)) @ condition.embeddings[0].float()).std()
    head.layers[-1].bias.data -= said.mean(0)
    for parameter in model.condition_proj["phrase"].parameters():
        parameter.data *= score_deviation / float(deviation)
    for parameter in model.mask_decoder.mask_embed.layers[-1].parameters():
        parameter.data *= mask_deviation / float(level.mask_logits.float().std())


class Words:
    """A token a word, a blank or a mark: about as many tokens as GPT-2 makes of these prompts."""

    seg = 1

    def words(self):
        return []

    def encode(self, text):
        return [2 + zlib.crc32(word.encode()) % 900 for word in re.findall(r"\[SEG\]| ?\w+|\s|\W", text)]


def official(segmenter, sentences):
    """Masks and scores as the official evaluation makes them, one sentence after the other."""
    from anygrain.images import open_image
    from anygrain.models.psalm import postprocess
    from anygrain.models.psalm.prompts import about_phrase

    model, answers = segmenter.model, []
    for sentence in sentences:
        image = open_image(PHOTO)
        resize = model.make_resize((image.height, image.width))
        with segmenter._how.arithmetic(model):
            pixels = model.prepare([image], [resize])
            tokens = model.projector(model.image_encoder(pixels)[3])
            question = about_phrase(model.tokenizer, [sentence])
            hidden, ids, owner = model.read([question], tokens)
            conditions = model.conditions(hidden, ids, owner, [question.kind])
            mask_features, maps = model.pixel_decoder(model.image_encoder(pixels))  # the second time
            levels = model.answer(conditions, [question], maps, mask_features, every_level=True)
            logits, mask_logits = levels[-1][0]
            whole = torch.nn.functional.interpolate(
                mask_logits[None].float(), resize.canvas, mode="bilinear", align_corners=False
            )[0]
            masks = postprocess.to_picture(whole[:, : resize.content[0], : resize.content[1]], resize)
            scores = logits.float().sigmoid()[:, 0] * postprocess.mask_scores(masks)
            best = int(scores.argmax())
            answers.append((float(scores[best]), (masks[best] > 0).cpu().numpy()))
    return answers


def ours(segmenter, sentences):
    from anygrain.types import Prompt

    (embedding,) = segmenter.embed([PHOTO])
    prompts = [Prompt(text=sentence) for sentence in sentences]
    return [(float(p.scores[0]), p.masks[0]) for p in segmenter.answer(embedding, prompts)]


def count(way, segmenter, sentences) -> tuple[float, list]:
    """10^9 multiplications and additions of matrix products and convolutions, and the answers."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        answers = way(segmenter, sentences)
    return counter.get_total_flops() / 1e9, answers


def measure(way, segmenter, sentences, device: str) -> tuple[float, list]:
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    start = clock()
    answers = way(segmenter, sentences)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return clock() - start, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny", "middle"], choices=["tiny", "middle", "released"])
    parser.add_argument("--sentences", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--input-size", type=int, help="pixels, in place of the model's own")
    parser.add_argument(
        "--spread", nargs=2, type=float, default=[3.0, 5.0], help="standard deviation of the scores' and masks' logits"
    )
    parser.add_argument("--unsure", action="store_true", help="leave the logits as random weights make them")
    parser.add_argument("--count", action="store_true", help="count operations (GFLOP) in place of seconds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-limit", type=int, help="bytes for a batch of prompts (the Segmenter's own)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 in both ways")
    arguments = parser.parse_args()
    unit = "G" if arguments.count else "s"
    print(f"{'model':<10}{'M':>7}{'px':>6}{'K':>4}{'official':>12}{'ours':>12}{'ratio':>8}{'score differs':>15}")
    for name in arguments.models:
        segmenter = build(name, arguments)
        if not arguments.unsure:
            spread(segmenter, *arguments.spread)
        ours(segmenter, SENTENCES[:1])  # warms up
        million = sum(parameter.numel() for parameter in segmenter.model.parameters()) / 1e6
        for number in arguments.sentences:
            slow, fast = [], []
            for _ in range(arguments.repeats):
                for way, runs in ((ours, fast), (official, slow)):
                    sentences = SENTENCES[:number]
                    if arguments.count:
                        runs.append(count(way, segmenter, sentences))
                    else:
                        runs.append(measure(way, segmenter, sentences, arguments.device))
            seconds = [min(run[0] for run in runs) for runs in (slow, fast)]
            apart = max(abs(a[0] - b[0]) for a, b in zip(slow[0][1], fast[0][1], strict=True))
            print(
                f"{name:<10}{million:>7.1f}{segmenter.model.config.input_size:>6}{number:>4}"
                f"{seconds[0]:>10.2f} {unit}{seconds[1]:>10.2f} {unit}{seconds[0] / seconds[1]:>7.2f}x{apart:>15.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
