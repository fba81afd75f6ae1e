"""Append-only run files, their row types, and content-addressed objects beside them."""
