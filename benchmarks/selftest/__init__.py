"""The benchmark of the benchmark: every sin is planted, and the rule meant for it has to notice (`selftest`)."""
