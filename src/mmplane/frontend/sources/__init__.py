"""Where media bytes come from: data URIs, other hosts, files."""
