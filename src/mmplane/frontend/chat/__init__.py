"""One chat request from parsed body to text, and what it takes to know that it works."""
