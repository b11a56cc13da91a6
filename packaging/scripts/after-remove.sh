# Runs when nothing is to stay: for dpkg when the package is purged, for rpm when it is erased.
# shellcheck shell=sh

rm -rf --one-file-system /run/pausa
