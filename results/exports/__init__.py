"""Records as the files and entries of other programs: one module per target, the foreign library imported when used."""
