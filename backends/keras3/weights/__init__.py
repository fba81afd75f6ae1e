"""Weights of Keras models: file formats, names, layouts and published networks."""
