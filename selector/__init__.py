"""Farthest-point selection of candidates, exact and streaming (DynIm)."""
