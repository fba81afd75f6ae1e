"""How an image folder is laid out: its files, and which of its folders are splits and which are classes."""
