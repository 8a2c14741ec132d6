"""Weakly-supervised temporal action localisation by uncertainty modelling, rebuilt from hashes."""

__version__ = "0.1.0"
