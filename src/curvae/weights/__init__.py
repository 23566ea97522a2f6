"""Posteriors over decoder weights (none yet)."""
