"""The kernel: what a case is, how it is fed, timed, audited and run. Imports no framework and no sibling package."""

from __future__ import annotations

PROTOCOL = 1
"""Number of the measuring protocol. Records of two protocols are never compared; CHANGELOG says what changed."""
