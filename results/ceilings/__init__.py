"""Stored ceilings, and the share of them that a training reaches."""
