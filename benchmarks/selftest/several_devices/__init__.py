"""Mistakes of training on several devices, planted in the real backends; the certificate must find them."""
