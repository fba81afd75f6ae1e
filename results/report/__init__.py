"""The page: records to one HTML file that opens from disk, and its figures to PNG and SVG. Pure functions over records.

Altair, Jinja2 and vl-convert come with the extra `report` and are imported nowhere else.
"""
