"""Analyses of a finished run: decorrelation, space, drift, coverage, feedback, metric."""
