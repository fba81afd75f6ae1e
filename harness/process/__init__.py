"""Worker processes: their start, their environment and their end."""
