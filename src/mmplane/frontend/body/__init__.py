"""Types for request bodies, and the parts that must be prepared before the ranks can use them."""
