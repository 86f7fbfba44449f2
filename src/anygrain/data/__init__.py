"""Data sets in, training batches out: readers, shards, captions, mixtures."""
