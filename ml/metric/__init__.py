"""The similarity metric of Bhatia et al. 2022: features, losses, networks, criteria."""

from ml.metric.radial_profiles import radial_profiles

__all__ = ["radial_profiles"]
