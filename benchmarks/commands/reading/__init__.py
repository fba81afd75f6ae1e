"""Read results."""
