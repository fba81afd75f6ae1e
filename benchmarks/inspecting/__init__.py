"""Inspect models, machines and stored figures without measuring."""
