"""Formula-made inputs for the criterion / mask-generator goldens (numpy only, written from scratch)."""

import numpy as np


def gt_masks(h, w):
    """8 nested / overlapping boolean masks."""
    y, x = np.mgrid[0:h, 0:w] / np.array([h, w], dtype=np.float64).reshape(2, 1, 1)

    def d(cx, cy, r):
        return ((x - cx) ** 2 + (y - cy) ** 2) < r * r

    def r(x0, y0, x1, y1):
        return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)

    return np.stack(
        [
            r(0.02, 0.05, 0.98, 0.95),
            d(0.3, 0.4, 0.25),
            d(0.3, 0.4, 0.1),
            r(0.55, 0.4, 0.95, 0.9),
            d(0.72, 0.6, 0.15),
            d(0.72, 0.6, 0.05),
            r(0.45, 0.05, 0.7, 0.3),
            r(0.0, 0.0, 0.5, 0.5),
        ]
    )


def randn(seed, shape):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def rand(seed, shape):
    return np.random.RandomState(seed).random_sample(shape).astype(np.float32)


def amg_masks(points, tokens, h, w):
    """Stand-in network for the automatic mask generator.  points (N,2) in [0,1] (x,y); tokens: list of raw token ids.
    returns logits (N*len(tokens), h, w) float32 click-major, iou (N, len(tokens)) float32."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    out, iou = [], []
    for px, py in np.asarray(points, dtype=np.float64):
        # snap the centre so that neighbouring points produce duplicates for NMS
        cx, cy = (np.floor(px * 3) + 0.5) / 3 * w, (np.floor(py * 3) + 0.5) / 3 * h
        row = []
        for t in tokens:
            r = (4 + 3 * t) * (1 + 0.05 * px)
            dist = np.hypot(x - cx, y - cy)
            soft = 1.0 + 3.0 * ((t * 7 + int(px * 100)) % 5)
            m = (r - dist) * soft
            if t == 2:  # small hole (removed by min_mask_region_area)
                m[np.hypot(x - cx, y - cy) < 1.2] = -3.0
            if t == 4:  # small far island
                ix, iy = int((cx + 0.37 * w) % w), int((cy + 0.41 * h) % h)
                m[iy : iy + 2, ix : ix + 2] = 4.0
            if t == 5 and px > 0.8:  # empty mask -> stability 0/0
                m = -np.ones_like(m) * 5
            out.append(m)
            row.append(0.80 + 0.2 * (((t * 13 + int(px * 1000) * 7 + int(py * 1000) * 3) % 29) / 28.0))
        iou.append(row)
    return np.stack(out).astype(np.float32), np.asarray(iou, dtype=np.float32)
