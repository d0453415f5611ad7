"""The story of Bhatia et al. 2022 from first membrane to last figure, as one resumable command."""
