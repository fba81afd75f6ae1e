"""One module per command; each has a click command named `command`. The file name is the command."""
