"""Find the fastest settings that provably train the same."""
