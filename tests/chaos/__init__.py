"""The kill matrix: every role killed and stopped at every stage of a request, under load; see `tests.chaos.table`."""
