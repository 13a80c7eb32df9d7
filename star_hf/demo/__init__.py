"""The demo: train on what it built, and compare before and after."""
