"""Rows from records, tables from rows, and the answer of a table."""
