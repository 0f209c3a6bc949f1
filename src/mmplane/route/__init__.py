"""Several replicas behind one address: HAProxy's configuration written, checked and run, and its replicas changed."""
