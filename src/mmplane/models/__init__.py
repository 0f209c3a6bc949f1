"""The model that ships with mmplane: small, of our own training, complete without a network."""
