"""Worker processes: how they start, what environment they get, and how they end."""
