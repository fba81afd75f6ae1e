"""One module per command, each with a click command named `command`; the file name is the name of the command."""

from __future__ import annotations

FOLDERS = ("measuring", "reading", "inspecting")
"""The folders of commands, in the order of `--help`."""
