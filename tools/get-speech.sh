#!/usr/bin/env bash
# Real speech for the tests: the words in Debian's alsa-utils, unpacked into a folder and not installed.
set -euo pipefail
folder=$1
installed=/usr/share/sounds/alsa
mkdir -p "$folder"
if [ ! -d "$installed" ]; then
  unpacked=$(mktemp -d)
  trap 'rm -rf "$unpacked"' EXIT
  cd "$unpacked"
  apt-get download alsa-utils 2> /dev/null || { apt-get update -qq && apt-get download alsa-utils; }
  dpkg-deb -x alsa-utils_*.deb .
  installed="$unpacked$installed"
  cd "$OLDPWD"
fi
cp "$installed"/*.wav "$folder"
