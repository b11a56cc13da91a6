#!/bin/bash
# Installs a built pausa: program, systemd unit, manual pages, completions, documentation, alerts and Grafana board.
# What is made from the commands, the program makes itself.
set -euo pipefail

usage="usage: scripts/install.sh PROGRAM PREFIX [DESTDIR]"
program=$(realpath "${1:?$usage}")
prefix=${2:?$usage}
to=${3:-}$prefix
cd "$(dirname "$0")/.."

umask 022
install -D -m 0755 "$program" "$to/bin/pausa"
install -d "$to/lib/systemd/system" "$to/share/man/man1" "$to/share/man/man5" "$to/share/pausa" \
    "$to/share/bash-completion/completions" "$to/share/zsh/site-functions" "$to/share/fish/vendor_completions.d"
sed "s|/usr/bin/pausa|$prefix/bin/pausa|" packaging/pausa.service > "$to/lib/systemd/system/pausa.service"
"$program" man "$to/share/man/man1"
"$program" config manual > "$to/share/man/man5/pausa.toml.5"
"$program" completion bash > "$to/share/bash-completion/completions/pausa"
"$program" completion zsh > "$to/share/zsh/site-functions/_pausa"
"$program" completion fish > "$to/share/fish/vendor_completions.d/pausa.fish"
# Every key with its documentation and its default, as comments: what is not set here follows the defaults of the next version.
{
    echo "# All keys of pausa with their defaults; see pausa.toml(5). \`pausa config\` prints what is in effect."
    echo "# Drop-ins in config.d/*.toml come after this file."
    echo
    "$program" config default | sed 's/^[^#]/#&/'
} > "$to/share/pausa/config.toml"
install -m 0644 -t "$to/share/pausa" packaging/crictl.yaml packaging/pausa.socket
for place in grafana prometheus; do
    install -D -m 0644 -t "$to/share/pausa/$place" packaging/"$place"/*
done
install -D -m 0644 -t "$to/share/doc/pausa" LICENSE README.md CHANGELOG.md
install -D -m 0644 -t "$to/share/doc/pausa/docs" docs/*.md
