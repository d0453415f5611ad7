"""Molecular dynamics of patches: mock engines, external programs, and the slots they run in."""
