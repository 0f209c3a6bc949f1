"""mmplane inside other engines, through their own plugin interfaces."""
