"""One training on several devices of a machine, whose steps are together those of one device."""
