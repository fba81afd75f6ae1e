"""Why one side is faster: the share of each factor in a ratio of two speeds, stored, in words and as a chart."""
