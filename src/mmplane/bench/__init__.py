"""`mmplane bench`: which delivery to run, measured, with what the analyses predicted beside it."""
