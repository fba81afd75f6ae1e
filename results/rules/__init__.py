"""The rules: checks over a record, its files, its times, two rows, and a whole table."""
