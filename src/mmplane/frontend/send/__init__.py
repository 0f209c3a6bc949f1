"""To the ranks: which delivery a request takes, its items made ready, requests out and tokens in."""
