"""Two live workers that train in turns."""
