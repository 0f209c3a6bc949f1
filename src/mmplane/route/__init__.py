"""Several replicas behind one address: writes, checks and runs HAProxy's configuration, and changes its replicas."""
