"""Answers to certificates and audits: activations, gradients and how exactly an engine computes."""
