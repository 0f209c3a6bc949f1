"""One chat request from parsed body to text, and readiness."""
