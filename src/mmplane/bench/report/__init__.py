"""A run's JSON judged and shown: nothing is measured here."""
