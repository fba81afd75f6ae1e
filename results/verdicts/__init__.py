"""Comparisons of two sides: estimates, verdicts, history and what a machine can resolve."""
