"""The gain from further devices, from stored comparisons."""
