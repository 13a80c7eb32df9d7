"""What every room may use: files, text, paths, progress bars, figures. Knows no other room."""
