"""Find out which settings make one side faster than the other."""
