"""Run planned cases one by one, with progress and forecasts."""
