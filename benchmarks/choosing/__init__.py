"""What to run: the catalogue, scenarios, suites and selections."""
