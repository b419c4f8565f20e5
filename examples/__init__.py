"""Small programs that show one thing each; every one of them is run by a test."""
