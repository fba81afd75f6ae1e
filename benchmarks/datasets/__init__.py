"""Datasets: where pixels come from, decoded and resized once into memory-mapped arrays.

Add one: a function that returns an `ArraySet`, in `named.DATASETS`; or an `Archive` of an image folder, in
`named.ARCHIVES`. A user's own comes as a folder, or from a plugin's `DATASETS`.
"""
