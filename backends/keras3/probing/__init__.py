"""Measurements for certificates and audits: activations, gradients and precision of an engine."""
