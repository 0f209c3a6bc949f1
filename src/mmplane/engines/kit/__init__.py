"""Common parts of the plugins for other engines. Imports none of the engines.

plugin      the entry point: judges this engine, applies every hook or none, and logs the decision
verdict     whether a version is on, and why
hooks       the functions to wrap as a table, and whether this engine has them
applying    wraps them if the engine has no registry of hooks
applied     checks that they are wrapped
settings    environment variables for the operator
sidecar     one per server, found by its processes
room        how much memory the features get
tally       counts what was carried or passed over, by reason
device      a rank's GPU: memory registered with its driver, and leases that wait for copies
gauges      gauges in the engine's own `/metrics`
doctor      the framework of `mmplane doctor --ENGINE [URL]`
"""
