"""The annotation engine: photographs in, triplets out (UniLSeg, section 3.3)."""
