"""What the plugins for other engines share. It imports none of them.

plugin      the entry point: judge this engine, apply every hook or none, say in one line which
verdict     whether a version is on, and why
hooks       functions to wrap, as a table, and whether this engine has them
applying    wrap them where the engine has no registry of its own
applied     whether they are wrapped
settings    what an operator sets, by environment variables
sidecar     one for each server, found by its processes
room        how much memory the features get
tally       what was carried and what was not, by kind of reason
device      a rank's GPU: memory that its driver has registered, and leases that wait for copies
gauges      figures in the engine's own `/metrics`
doctor      the frame of `mmplane doctor --ENGINE [URL]`
"""
