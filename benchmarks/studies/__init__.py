"""Studies of the harness: its overhead, its false alarms, and the separation of the scenarios."""
