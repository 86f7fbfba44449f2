"""The networks by name. A dict, not a registry: a new model is one line here."""

MODELS = {
    "unilseg": ("anygrain.models.unilseg", "UniLSeg", "UniLSegConfig"),
    "semantic_sam": ("anygrain.models.semantic_sam", "SemanticSAM", "SemanticSAMConfig"),
    "psalm": ("anygrain.models.psalm.network", "PSALM", "PSALMConfig"),
    "ram": ("anygrain.models.ram", "RAM", "RAMConfig"),
}
"""Name in ``config.json`` -> module, model class, config class."""
