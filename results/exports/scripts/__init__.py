"""A stored case as one readable training script of its framework, which needs nothing of this project."""
