#!/bin/bash
# Makes a .deb and an .rpm of a built pausa. Their contents are listed in Cargo.toml, [package.metadata.deb] and
# [package.metadata.generate-rpm]; the scripts that they run are put together here from packaging/scripts, so that both
# do the same. VERSION overrides that of Cargo.toml; with PACKAGE_FAST set, a .deb is packed quickly instead of well.
set -euo pipefail

usage="usage: scripts/package.sh PROGRAM DIRECTORY [deb|rpm]..."
program=$(realpath "${1:?$usage}")
out=$(realpath -m "${2:?$usage}")
shift 2
formats=("$@")
[ "$#" -gt 0 ] || formats=(deb rpm)
cd "$(dirname "$0")/.."

version=${VERSION:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
tools=${PAUSA_TOOLS:-$PWD/target/tools}
PATH=$tools/bin:$PATH
cargo_deb=3.8.0
cargo_generate_rpm=0.21.1

# Cargo.toml has these paths.
stage=target/package
rm -rf "$stage"
mkdir -p "$out" "$stage/deb" "$stage/rpm"
scripts/install.sh "$program" /usr "$stage/root"

# What packaging/scripts has, for the time that dpkg or rpm calls so in $1.
part() {
    cat << TEXT
if [ "\$1" = $1 ]; then
$(grep -v '^\(#\|$\)' "packaging/scripts/$2")
fi
TEXT
}
script() {
    printf '#!/bin/sh\nset -e\n' > "$1"
    cat >> "$1"
    chmod 0755 "$1"
}

for format in "${formats[@]}"; do
    case $format in
    deb)
        # cargo-deb replaces #DEBHELPER# with what debhelper does for a unit: enable, start, restart, stop.
        { part configure after-install.sh && echo '#DEBHELPER#'; } | script "$stage/deb/postinst"
        { echo '#DEBHELPER#' && part remove before-remove.sh; } | script "$stage/deb/prerm"
        {
            echo '#DEBHELPER#'
            part purge after-remove.sh
            cat << 'TEXT'
if [ "$1" = purge ]; then
    # They may be file systems of their own.
    rm -rf --one-file-system /var/lib/pausa /etc/pausa || true
fi
TEXT
        } | script "$stage/deb/postrm"
        {
            printf 'pausa (%s-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n' "$version"
            printf ' -- %s  %s\n' "$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)" \
                "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
        } > "$stage/changelog"
        if [[ $(cargo-deb --version 2> /dev/null) != *"$cargo_deb" ]]; then
            env -u RUSTFLAGS cargo install --quiet --locked --root "$tools" "cargo-deb@$cargo_deb"
        fi
        # Release builds have no debug information; other programs stay as they are.
        cargo-deb --no-build --no-strip --quiet ${PACKAGE_FAST:+--fast} --deb-version "$version-1" --output "$out"
        ;;
    rpm)
        # $1 is how many versions of the package are there afterwards.
        {
            grep -v '^\(#\|$\)' packaging/scripts/after-install.sh
            cat << 'TEXT'
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    # Enabled or not, as the distribution's presets say.
    [ "$1" -gt 1 ] || systemctl preset pausa.service || true
fi
TEXT
        } | script "$stage/rpm/post"
        {
            cat << 'TEXT'
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --now pausa.service || true
fi
TEXT
            part 0 before-remove.sh
        } | script "$stage/rpm/preun"
        {
            part 0 after-remove.sh
            cat << 'TEXT'
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    # Containers run on.
    [ "$1" = 0 ] || systemctl try-restart pausa.service || true
fi
TEXT
        } | script "$stage/rpm/postun"
        if [[ $(cargo-generate-rpm --version 2> /dev/null) != *"$cargo_generate_rpm" ]]; then
            env -u RUSTFLAGS cargo install --quiet --locked --root "$tools" "cargo-generate-rpm@$cargo_generate_rpm"
        fi
        cargo-generate-rpm --target-dir target --set-metadata "version = \"$version\"" --output "$out"
        ;;
    *) echo "$usage" >&2 && exit 2 ;;
    esac
done
