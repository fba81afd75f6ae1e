"""The gain from further devices."""
