"""Exports to other programs: one module per target, which imports its library only when used."""
