"""Records to rows, rows to a table, and the answer that the table gives."""
