"""Two workers that live side by side and train in turns."""
