"""Sources of media bytes: data URIs, other hosts, files."""
