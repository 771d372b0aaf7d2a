#!/bin/sh
# Chromium, for the tests of the member's page: installed when it is missing, this is Debian or Ubuntu, and we are root.
# Otherwise nothing happens but a line that says so; the tests then skip, loudly.
set -eu
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "Chromium is missing and cannot be installed from here (that needs root and apt-get): the page's tests will skip." >&2
  exit 0
fi
echo "Installing Chromium for the tests of the member's page (once; a minute or two)"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
  || echo "Chromium could not be installed: the page's tests will skip." >&2
