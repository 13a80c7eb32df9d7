"""The results folder: answers, verdicts, and the rates that are made of them."""
