"""Deterministic, name-keyed parameter filling used by every Semantic-SAM golden fixture here.

Written from scratch; depends on numpy only.  No weight file is needed: any implementation that can map
its parameters to the *official* state_dict names reproduces the weights bit for bit.

    value(key, shape):
        ck   = canonical(key)                       # tied parameters share ONE canonical name
        rng  = numpy.random.RandomState(zlib.crc32(ck.encode()) & 0x7fffffff)
        n    = rng.standard_normal(shape)           # float64, C order
        0-d                                  -> 1 + 0.02 n           (LanguageEncoder.logit_scale)
        1-d, name ends with "weight"         -> 1 + 0.02 n           (every 1-d weight is a norm weight)
        name ends with "running_var"         -> 1 + 0.1 * rng.random_sample(shape)   (none exist here)
        1-d, name ends with "bias"           -> 0.02 n               (also MultiheadAttention.in_proj_bias)
        >=2-d, everything else               -> n / sqrt(numel / shape[0])
      computed in float64, then cast once to float32.

Four exceptions, needed because the plain rule gives degenerate outputs (six masks of a click with correlation
0.99 and boxes that shrink to 5e-5):
    predictor.{mask_tokens,pb_embedding,label_enc}.weight   -> n            (unit std, like nn.Embedding init)
    predictor.decoder.layers.<i>.{self_attn.out_proj,cross_attn.output_proj,linear2}.weight  -> 0.3 * rule
    predictor._bbox_embed.layers.2.weight                   -> 0.2 * rule
    predictor._bbox_embed.layers.2.bias                     -> rule + [0, 0, 0.5, 0.5]   (boxes grow per layer)

"everything else" deliberately includes relative_position_bias_table (fan_in = num_heads), level_embed,
lang_mapper, class_embed and class_embed_part.
Integer buffers (relative_position_index) are structural and are never touched.

Keys are those of GeneralizedMaskDINO.state_dict(), i.e. WITHOUT the leading "model." that released .pth
files carry (BaseModel wraps the network as attribute `model`).

Tied parameters (official state_dict repeats them; all copies must stay equal):
    sem_seg_head.predictor.bbox_embed.<i>.*            -> sem_seg_head.predictor._bbox_embed.*
    sem_seg_head.predictor.decoder.bbox_embed.<i>.*    -> sem_seg_head.predictor._bbox_embed.*
    sem_seg_head.predictor.decoder.norm.*              -> sem_seg_head.predictor.decoder_norm.*
"""

import re
import zlib

import numpy as np

_TIED = [
    (re.compile(r"^(.*predictor)\.(?:decoder\.)?bbox_embed\.\d+\."), r"\1._bbox_embed."),
    (re.compile(r"^(.*predictor)\.decoder\.norm\."), r"\1.decoder_norm."),
]


def canonical(key):
    for rx, to in _TIED:
        key = rx.sub(to, key)
    return key


def value(key, shape):
    shape = tuple(int(s) for s in shape)
    ck = canonical(key)
    rng = np.random.RandomState(zlib.crc32(ck.encode()) & 0x7FFFFFFF)
    if ck.endswith("running_var"):
        return (1.0 + 0.1 * rng.random_sample(shape)).astype(np.float32)
    n = np.asarray(rng.standard_normal(shape), dtype=np.float64)
    if len(shape) == 0:
        return np.float32(1.0 + 0.02 * n)
    if len(shape) == 1 and ck.endswith("weight"):
        return (1.0 + 0.02 * n).astype(np.float32)
    if len(shape) == 1 and ck.endswith("bias"):
        out = 0.02 * n
        if ck.endswith("predictor._bbox_embed.layers.2.bias"):
            out = out + np.array([0.0, 0.0, 0.5, 0.5])
        return out.astype(np.float32)
    if len(shape) < 2:
        raise ValueError(f"no rule for {key} {shape}")
    if re.search(r"predictor\.(mask_tokens|pb_embedding|label_enc)\.weight$", ck):
        return n.astype(np.float32)
    fan_in = int(np.prod(shape)) / shape[0]
    gain = 1.0
    if ck.endswith("predictor._bbox_embed.layers.2.weight"):
        gain = 0.2
    elif re.search(
        r"predictor\.decoder\.layers\.\d+\.(self_attn\.out_proj|cross_attn\.output_proj|linear2)\.weight$", ck
    ):
        gain = 0.3
    return (gain * n / np.sqrt(fan_in)).astype(np.float32)


def image_formula(h, w, phase=0.0):
    """uint8 RGB test image (3, h, w): smooth gradients + discs + stripes + a hash texture, no RNG, no trig libm
    dependence beyond float64 sin (rounded to uint8)."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    u, v = x / w, y / h
    base = np.stack(
        [
            110 + 90 * np.sin(2 * np.pi * (1.5 * u + 0.7 * v) + phase),
            120 + 80 * np.sin(2 * np.pi * (0.8 * u - 1.9 * v) + 1.0 + phase),
            100 + 100 * (0.5 * u + 0.5 * v),
        ]
    )
    for cx, cy, r, col in (
        (0.30, 0.40, 0.22, (220, 40, 60)),
        (0.30, 0.40, 0.10, (250, 230, 40)),
        (0.72, 0.60, 0.18, (30, 90, 220)),
        (0.72, 0.52, 0.05, (240, 240, 240)),
    ):
        m = ((x - cx * w) ** 2 + (y - cy * h) ** 2) < (r * min(h, w)) ** 2
        for c in range(3):
            base[c][m] = col[c]
    stripe = ((x // 8) % 2 == 0) & (v > 0.82)
    base[:, stripe] = 20
    tex = ((x.astype(np.int64) * 7919 + y.astype(np.int64) * 104729) % 31).astype(np.float64) - 15
    return np.clip(np.floor(base + tex + 0.5), 0, 255).astype(np.uint8)


def fill_torch(model):
    """Fill every floating tensor of a torch module's state_dict in place."""
    import torch

    sd = model.state_dict()
    with torch.no_grad():
        for k, t in sd.items():
            if t.is_floating_point():
                t.copy_(torch.from_numpy(np.asarray(value(k, tuple(t.shape)))))
    return model
