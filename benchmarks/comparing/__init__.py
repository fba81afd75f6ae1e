"""Compare two sides: read and prepare them, measure pairs and seeds, and reach a verdict."""
