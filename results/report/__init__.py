"""The report: one HTML file from records, and its charts as PNG and SVG. Needs the extra `report`."""
