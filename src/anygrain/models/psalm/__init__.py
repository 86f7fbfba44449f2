"""PSALM (arXiv 2403.14598): a language model that segments. A file for each block of the paper's figure 2."""
