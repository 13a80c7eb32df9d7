"""Cards of data sets and models: generated sections that a person may edit around."""
