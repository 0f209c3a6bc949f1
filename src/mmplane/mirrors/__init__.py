"""Mirrors: a plane's ranks on other machines read copies of its slots, which cross the network once per machine."""
