"""Weights of PyTorch models: file formats, names and published networks."""
