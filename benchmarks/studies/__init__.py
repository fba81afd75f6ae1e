"""Studies of the harness itself: its overhead, false alarms, and whether the scenarios separate."""
