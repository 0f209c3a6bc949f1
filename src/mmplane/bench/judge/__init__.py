"""A run's rows: put together, compared, and judged by the analyses. Pure."""
