"""The plane inside other engines, through their own plugin interfaces."""
