"""The freeze audit: what a stage changed, compared with what it declared."""
