#!/usr/bin/env bash
# Debian's prometheus and promtool, unpacked into a folder: installing the package would start a service.
set -euo pipefail
folder=$1
[ -x "$folder/usr/bin/promtool" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
(cd "$work" && apt-get download --quiet prometheus 2> /dev/null) || (apt-get update --quiet && cd "$work" && apt-get download --quiet prometheus)
mkdir -p "$folder"
dpkg -x "$work"/prometheus_*.deb "$folder"
