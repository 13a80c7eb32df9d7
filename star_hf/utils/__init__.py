"""Helpers for every room: files, options, text, paths, progress bars, figures. They import no other room."""
