"""The only home of torch, keras and jax: one module per backend, each with the names of `harness.contract.Backend`."""
