"""The campaign: composes continuum, ml and selector into the multiscale loop."""
