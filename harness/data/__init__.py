"""Datasets, checkpoints and images on disk, and the feed that hands batches to a backend."""
