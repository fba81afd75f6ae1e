"""Advise: which network and method gives the best accuracy on given images within a budget."""
