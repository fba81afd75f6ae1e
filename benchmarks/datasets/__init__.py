"""Datasets, decoded and resized once into memory-mapped arrays.

To add one, put a function that returns an `ArraySet` into `named.DATASETS`, or an `Archive` of an image folder into
`named.ARCHIVES`. A user's dataset is a folder or comes from a plugin's `DATASETS`.
"""
