"""What commands print: tables for people. Nothing else in the library prints."""
