"""The layout of an image folder: its files, splits and classes."""
