"""Sections about comparisons of two sides."""
