"""One training on several devices: a process for each, whose steps are together those of one device."""
