"""The self-test: plant every known benchmarking mistake ("sin") and check that its rule detects it."""
