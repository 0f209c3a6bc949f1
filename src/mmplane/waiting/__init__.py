"""Who waits, for what, for how long: budget, seats and turns."""
