"""Where questions come from: the catalogue, the readers of files and rows, and what must be held out."""
