"""Everything that waits: for the budget, for seats and for turns."""
