"""Training recipes: Python functions that return a full TrainConfig. A variant is ``dataclasses.replace``."""

RECIPES = {
    "unilseg_base": "anygrain.recipes.unilseg_base",
    "unilseg_base_pretrain": "anygrain.recipes.unilseg_base_pretrain",
    "unilseg_nano": "anygrain.recipes.unilseg_nano",
    "unilseg_nano_pretrain": "anygrain.recipes.unilseg_nano_pretrain",
}
"""Name on the command line -> module with ``config(data) -> TrainConfig`` and ``build(config) -> model``."""
