"""Everything that a case needs before it is measured: data, checkpoints and certificates."""
