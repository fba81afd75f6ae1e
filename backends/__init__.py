"""The backends: one module each, with the names of `harness.contract.Backend`. Only they import frameworks."""
