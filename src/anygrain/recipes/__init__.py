"""Training recipes: Python functions that return a full TrainConfig. A variant is ``dataclasses.replace``."""

RECIPES = {
    "psalm_align": "anygrain.recipes.psalm_align",
    "psalm_joint": "anygrain.recipes.psalm_joint",
    "psalm_nano": "anygrain.recipes.psalm_nano",
    "semantic_sam_nano": "anygrain.recipes.semantic_sam_nano",
    "semantic_sam_swinl": "anygrain.recipes.semantic_sam_swinl",
    "semantic_sam_swint": "anygrain.recipes.semantic_sam_swint",
    "unilseg_base": "anygrain.recipes.unilseg_base",
    "unilseg_base_pretrain": "anygrain.recipes.unilseg_base_pretrain",
    "unilseg_nano": "anygrain.recipes.unilseg_nano",
    "unilseg_nano_pretrain": "anygrain.recipes.unilseg_nano_pretrain",
}
"""Name on the command line -> module with ``config(data) -> TrainConfig`` and ``build(config) -> model``."""
