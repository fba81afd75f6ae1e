"""The command line, scenarios, suites, datasets, and step benchmarks for pytest-benchmark."""
