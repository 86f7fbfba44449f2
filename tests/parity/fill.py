"""Deterministic, weight-file-free inputs and parameters for UniLSeg parity tests.

Everything in the golden files next to this module can be regenerated from the
functions below, so no weight file has to be shipped:

* ``param(key, shape)``      value of one parameter / buffer of the reference
                             model, a function of its state_dict NAME and shape;
* ``fill_state_dict(sd)``    the same for a whole torch state_dict, in place;
* ``image_u8(name, h, w)``   synthetic uint8 RGB images, closed formula;
* ``normalise(u8)``          CLIP mean/std normalisation, float32 CHW;
* ``TOKENS_FULL``/``TOKENS_TINY``  the token id matrices of the goldens;
* ``logit_map(kind, h, w)``  synthetic float32 logit maps for the
                             post-processing goldens.

Only NumPy is needed.  Random numbers come from ``numpy.random.RandomState``
(MT19937 + the frozen legacy gaussian), whose streams do not change between
NumPy versions, and never from torch.

Names are those of the reference state_dict *without* the ``module.`` prefix
that DataParallel adds; ``param`` strips that prefix, so both spellings give
the same values.

Rules, first match wins (n = number of elements, s0 = first dimension):

 1 ``*.num_batches_tracked``           int64 zero
 2 ``*.relative_position_index``       None: not filled (it is an index table,
                                       a function of the window size only)
 3 ``*.running_var``                   1 + 0.1 * U[0,1)
 4 ``*.running_mean``                  0.02 * N(0,1), plus 0.35 for
                                       pixel_decoder.mask_features.1 only (it
                                       keeps the mask logits near zero)
 5 shape ()  (``backbone.logit_scale``) log(1/0.07)
 6 1-D and name ends in ``weight``     1 + 0.02 * N(0,1)   (all LN / BN gains)
 7 name ends in ``bias``               0.02 * N(0,1)
 8 1-D otherwise (class_embedding)     N(0,1) / sqrt(n)
 9 everything else                     N(0,1) / sqrt(n / s0)

Products are taken in float64 and rounded to float32 once, at the end.  No
further gains are needed: every stage of the full-size and of the tiny model
stays at unit scale (measured; see README.md).
"""

import math
import zlib

import numpy as np


def seed_of(key):
    """31-bit seed of a parameter name."""
    if key.startswith("module."):
        key = key[len("module.") :]
    return zlib.crc32(key.encode("utf-8")) & 0x7FFFFFFF


def param(key, shape):
    """Value of parameter ``key`` as a float32 array (int64 for rule 1).

    Returns None for keys that must keep the value the model computes."""
    if key.startswith("module."):
        key = key[len("module.") :]
    shape = tuple(int(s) for s in shape)
    n = int(np.prod(shape)) if shape else 1
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("relative_position_index"):
        return None
    rng = np.random.RandomState(seed_of(key))
    if key.endswith("running_var"):
        x = 1.0 + 0.1 * rng.rand(*shape)
    elif key.endswith("running_mean"):
        x = 0.02 * rng.randn(*shape)
        if key.startswith("pixel_decoder.mask_features."):
            x = x + 0.35
    elif shape == ():
        x = np.asarray(math.log(1.0 / 0.07))
    elif len(shape) == 1 and key.endswith("weight"):
        x = 1.0 + 0.02 * rng.randn(*shape)
    elif key.endswith("bias"):
        x = 0.02 * rng.randn(*shape)
    elif len(shape) == 1:
        x = rng.randn(*shape) / math.sqrt(n)
    else:
        x = rng.randn(*shape) / math.sqrt(n / shape[0])
    return np.asarray(x, dtype=np.float32)


def fill_state_dict(sd, skip=()):
    """Fill a torch state_dict (name -> tensor) in place, by name.

    ``skip``: key prefixes to leave alone (e.g. ``("backbone.visual.",)``, the
    CLIP image tower, which never reaches the output and is 86 M parameters).
    Returns the number of tensors written."""
    import torch

    done = 0
    with torch.no_grad():
        for key, t in sd.items():
            name = key[len("module.") :] if key.startswith("module.") else key
            if any(name.startswith(p) for p in skip):
                continue
            v = param(key, tuple(t.shape))
            if v is None:
                continue
            t.copy_(torch.from_numpy(np.asarray(v)).to(t.dtype))
            done += 1
    return done


# --------------------------------------------------------------------- images


def image_u8(name, h, w):
    """Synthetic H x W x 3 uint8 RGB image: smooth waves, a disc, a bar and a
    checker corner, plus (integer-only) hash noise so that every pixel matters.

    Float64 formulas are floored after adding an offset that stays away from
    rounding ties for all practical libm differences."""
    y, x = np.meshgrid(np.arange(h, dtype=np.float64), np.arange(w, dtype=np.float64), indexing="ij")
    u, v = (x + 0.5) / w, (y + 0.5) / h
    if name == "A":
        r = 128 + 90 * np.sin(2 * np.pi * (3 * u + 1 * v))
        g = 128 + 90 * np.sin(2 * np.pi * (1 * u - 2 * v) + 1.0)
        b = 128 + 90 * np.cos(2 * np.pi * (2 * u * v * 3))
        disc = (u - 0.35) ** 2 + (v - 0.60) ** 2 < 0.03
        bar = (np.abs(u - 0.75) < 0.06) & (v > 0.15) & (v < 0.85)
    elif name == "B":
        r = 255 * u
        g = 255 * v
        b = 128 + 100 * np.sin(2 * np.pi * 5 * (u + v))
        disc = (u - 0.70) ** 2 + (v - 0.30) ** 2 < 0.05
        bar = (np.abs(v - 0.80) < 0.05) & (u > 0.05) & (u < 0.6)
    else:
        raise ValueError(name)
    img = np.stack([r, g, b], -1)
    img[disc] = (230.0, 40.0, 60.0)
    img[bar] = (30.0, 200.0, 90.0)
    yi, xi = np.meshgrid(np.arange(h, dtype=np.int64), np.arange(w, dtype=np.int64), indexing="ij")
    checker = (((xi // 8) + (yi // 8)) % 2 == 0) & (u < 0.25) & (v < 0.25)
    img[checker] = (250.0, 250.0, 240.0)
    # 32-bit multiplicative hash, one value per pixel and channel, in [-12, 12]
    base = (yi * 73856093) ^ (xi * 19349663)
    noise = np.stack([(((base + c * 83492791) * 2654435761) >> 13) % 25 for c in range(3)], -1) - 12
    out = np.floor(img + 0.123456789).astype(np.int64) + noise
    return np.clip(out, 0, 255).astype(np.uint8)


MEAN = (0.48145466, 0.4578275, 0.40821073)  # RGB
STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(u8):
    """uint8 H x W x 3 RGB -> float32 3 x H x W, (x / 255 - mean) / std, each
    step in float32."""
    x = np.ascontiguousarray(u8.transpose(2, 0, 1)).astype(np.float32)
    x = x / np.float32(255.0)
    x = x - np.asarray(MEAN, np.float32)[:, None, None]
    return x / np.asarray(STD, np.float32)[:, None, None]


# --------------------------------------------------------------------- tokens

# Fixed ids, 49406 = start, 49407 = end, 0 = padding (context 17).
#   row 0: short prompt, 4 real tokens;  row 1: full length, no padding (what a
#   truncated long prompt looks like);   row 2: medium length, 10 real tokens.
TOKENS_FULL = np.array(
    [
        [49406, 615, 2368, 49407] + [0] * 13,
        [49406, 518, 2533, 2862, 2006, 525, 518, 1155, 997, 593, 320, 1579, 11644, 525, 655, 1823, 49407],
        [49406, 518, 736, 2442, 3912, 530, 518, 6035, 1237, 49407] + [0] * 7,
    ],
    np.int64,
)

# Tiny model: vocabulary 300, 298 = start, 299 = end, 0 = padding (context 12).
# Row 3 carries id 0 in the MIDDLE of the sequence: the reference masks it as
# padding wherever it stands.
TOKENS_TINY = np.array(
    [
        [298, 17, 299] + [0] * 9,
        [298, 5, 250, 101, 33, 7, 64, 200, 128, 99, 3, 299],
        [298, 42, 43, 150, 271, 8, 299] + [0] * 5,
        [298, 42, 0, 150, 271, 8, 299] + [0] * 5,
    ],
    np.int64,
)


# ----------------------------------------------------------------- logit maps


def logit_map(kind, h=120, w=120):
    """Synthetic float32 logit map h x w for the post-processing goldens."""
    y, x = np.meshgrid(np.arange(h, dtype=np.float64), np.arange(w, dtype=np.float64), indexing="ij")
    u, v = (x + 0.5) / w, (y + 0.5) / h
    if kind == "smooth":
        z = 4 * np.sin(2 * np.pi * (1.5 * u + 0.5)) * np.cos(2 * np.pi * v) + 0.5
    elif kind == "blobs":
        z = (
            10 * np.exp(-((u - 0.3) ** 2 + (v - 0.4) ** 2) / 0.01)
            + 14 * np.exp(-((u - 0.7) ** 2 + (v - 0.65) ** 2) / 0.03)
            - 5
        )
    elif kind == "edges":
        z = np.where((np.abs(u - 0.5) < 0.3) & (np.abs(v - 0.45) < 0.2), 9.0, -9.0)
    else:
        raise ValueError(kind)
    return z.astype(np.float32)
