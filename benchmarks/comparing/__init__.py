"""Two arms held against each other: what they are, their pairs, and what is said about them."""
