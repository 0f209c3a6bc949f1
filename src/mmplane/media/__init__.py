"""Media: turns encoded bytes into pixels, frames and samples; all limits are enforced here."""
