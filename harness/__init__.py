"""The kernel: the definition of a case, its data, clock, audit and run. Imports no framework and no sibling package."""

from __future__ import annotations

PROTOCOL = 1
"""Number of the measuring protocol. Records of different protocols are never compared; CHANGELOG lists the changes."""
