"""Certificates about two backends: their files, their scope, and the proof."""
