"""The two ways in which a component says no. Anything else that is raised is a failure."""

from __future__ import annotations


class Declined(Exception):
    """It cannot be done here; the message is the reason. The record's status becomes `skipped`."""


class Refused(Exception):
    """The input is wrong; the message names the thing and the remedy. Exit code 2, or a `failed` record."""
