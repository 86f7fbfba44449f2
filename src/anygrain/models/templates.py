"""The sentences in which a name is said before it is encoded: CLIP's 80 for ImageNet (MIT licence), and the bare name.

Averaging the vectors of many sentences is §3.1.4 of the CLIP paper (arXiv 2103.00020). Semantic-SAM does so too.
"""

TEMPLATES = (
    "{}.",
    *(
        f"{start} {{}}."
        for article in ("a", "the")
        for start in (
            f"a bad photo of {article}",
            f"a low resolution photo of {article}",
            f"a rendering of {article}",
            f"graffiti of {article}",
            f"a cropped photo of {article}",
            f"a tattoo of {article}",
            f"{article} embroidered",
            f"a photo of {article} hard to see",
            f"a bright photo of {article}",
            f"a photo of {article} clean",
            f"a photo of {article} dirty",
            f"a dark photo of {article}",
            f"a drawing of {article}",
            f"{article} plastic",
            f"a photo of {article} cool",
            f"a close-up photo of {article}",
            f"a black and white photo of {article}",
            f"a painting of {article}",
            f"a pixelated photo of {article}",
            f"a sculpture of {article}",
            f"a jpeg corrupted photo of {article}",
            f"a blurry photo of {article}",
            f"a photo of {article}",
            f"a good photo of {article}",
            f"a doodle of {article}",
            f"{article} origami",
            f"a sketch of {article}",
            f"{article} toy",
            f"a rendition of {article}",
            f"a photo of {article} large",
            f"a photo of {article} nice",
            f"a photo of {article} weird",
            f"{article} cartoon",
            f"art of {article}",
            f"itap of {article}",
            f"{article} plushie",
            f"a photo of {article} small",
        )
    ),
    "a photo of many {}.",
    "a photo of one {}.",
    "a photo of my {}.",
    "itap of my {}.",
    "a {} in a video game.",
    "the {} in a video game.",
)
