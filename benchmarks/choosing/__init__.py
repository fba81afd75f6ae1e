"""What there is to run and what was asked for: names, scenarios, suites and selections."""
