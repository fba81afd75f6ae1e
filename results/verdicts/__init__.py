"""Comparisons of two sides: estimates, verdicts, history and the resolution of a machine."""
