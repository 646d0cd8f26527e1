"""Layers, activations, normalisations, initialisers and losses."""
