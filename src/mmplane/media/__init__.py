"""Media: encoded bytes to pixels, frames and samples, behind one choke point of limits."""
