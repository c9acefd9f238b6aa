#!/usr/bin/env bash
# Tests the archive and the packages. `tests/packages.sh --help` prints how.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
Usage: tests/packages.sh [--program FILE]

Builds a release with release/build.sh, of FILE if it is given, and tests what is in dist/:

  - the deb: lintian; installed in a clean Debian 12, configured by one line, run against the simulated endpoint, upgraded,
    removed, purged
  - the rpm: rpmlint; it has the files of the deb
  - the archive: the program in it runs

Needs root, and of Debian: debootstrap lintian rpm rpmlint.
USAGE
}

case "${1:-}" in
  --help | -h) usage; exit 0 ;;
esac
for tool in debootstrap lintian rpm rpm2cpio rpmlint; do
  if ! type -P "$tool" >/dev/null; then
    printf 'tests/packages.sh: %s is missing: apt-get install debootstrap lintian rpm rpmlint\n' "$tool" >&2
    exit 1
  fi
done

step() { printf '\n-- %s\n' "$*"; }
fail() {
  printf 'tests/packages.sh: %s\n' "$*" >&2
  exit 1
}

name=aws-iot-jobs-exporter
step "build"
release/build.sh "$@"
deb="$(ls dist/*.deb)" rpm="$(ls dist/*.rpm)" archive="$(ls dist/*.tar.gz)"

work="$(mktemp -d)"
started=""
cleanup() {
  local pid
  for pid in $started; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

step "checksums, SBOM"
(cd dist && sha256sum --quiet --check SHA256SUMS)
python3 - dist/*.cdx.json <<'PY'
import json, sys
sbom = json.load(open(sys.argv[1]))
names = {component["name"] for component in sbom["components"]}
assert sbom["bomFormat"] == "CycloneDX" and {"aws-sdk-iot", "hyper", "tokio"} <= names, names
assert sbom["metadata"]["component"]["name"] == "aws-iot-jobs-exporter"
print(len(names), "crates")
PY

step "archive"
tar --extract --file "$archive" --directory "$work"
unpacked="$work/$(basename "$archive" .tar.gz)"
"$unpacked/$name" --version
for file in LICENSE-MIT LICENSE-APACHE README.md exporter.yml "$name.1" "$name.service" "completions/$name.bash"; do
  [ -s "$unpacked/$file" ] || fail "$archive has no $file"
done

step "lintian"
# Not a package of Debian, so it closes no bug there and has no scripts of debhelper. The file in /etc/default can hold an access key.
lintian --fail-on error,warning \
  --suppress-tags initial-upload-closes-no-bugs,maintainer-script-calls-systemctl,non-standard-file-perm "$deb"

step "rpmlint"
rpmlint --version
rpm --query --package --info "$rpm" | grep -E '^(Name|Version|License|URL)'
files_of_deb="$(dpkg-deb --contents "$deb" | awk '$1 !~ /^d/ { print substr($6, 2) }')"
files_of_rpm="$(rpm --query --package --list "$rpm")"
for file in $(printf '%s\n' "$files_of_deb" | grep -v -e /usr/share/doc -e vendor-completions); do
  printf '%s\n' "$files_of_rpm" | grep -qx "$file" || fail "the rpm has no $file, which the deb has"
done
rpm2cpio "$rpm" | (cd "$work" && mkdir rpm && cd rpm && cpio --extract --quiet --make-directories)
dpkg-deb --extract "$deb" "$work/deb"
cmp "$work/rpm/usr/bin/$name" "$work/deb/usr/bin/$name"
# Not a package of a distribution: cosign signs it, it is in no group, and its changes are in changelog.gz. The file in /etc/default can hold a key.
faults="$(rpmlint "$rpm" 2>&1 | grep -E ': E: ' | grep -v -e no-signature -e not-listed-as-documentation -e non-readable -e no-group-tag -e no-changelogname-tag || true)"
[ -z "$faults" ] || fail "rpmlint: $faults"

step "clean Debian"
root="$work/root"
# shellcheck disable=SC2016  # a field of apt
mirror="$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)"
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$work/debootstrap.log" || fail "debootstrap: $(tail -n 3 "$work/debootstrap.log")"
cp "$deb" "$root/root/one.deb"
in_root() { chroot "$root" env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive HOME=/root "$@"; }
in_root apt-get install --yes --no-install-recommends /root/one.deb >"$work/install.log" 2>&1 || fail "$(cat "$work/install.log")"
in_root "$name" --version
[ "$(stat --format %a "$root/etc/default/$name")" = 600 ] || fail "others can read /etc/default/$name"

step "run against the simulated endpoint, after one edited line"
"$root/usr/bin/$name" demo --simulator-only --simulator-address 127.0.0.1:19871 --jobs 50 --speed 0 >"$work/endpoint.log" 2>&1 &
started="$started $!"
sed -i "s|^ARGUMENTS=.*|ARGUMENTS=\"--config.file=/etc/$name/exporter.yml --web.listen-address=127.0.0.1:19872\"|" "$root/etc/default/$name"
# As systemd starts it: the command of the unit, with the variables of the file.
command="$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/$name.service")"
# shellcheck disable=SC2086  # systemd splits $ARGUMENTS too
(
  set -a
  # shellcheck disable=SC1090  # a file of the package
  . "$root/etc/default/$name"
  set +a
  exec chroot "$root" env --ignore-environment PATH=/usr/bin AWS_ENDPOINT_URL=http://127.0.0.1:19871 AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID=AKIADEMODEMODEMODEMO \
    AWS_SECRET_ACCESS_KEY=demo ${command%% *} $ARGUMENTS
) >"$work/exporter.log" 2>&1 &
started="$started $!"
for _ in $(seq 50); do
  if curl --silent --fail http://127.0.0.1:19872/metrics | grep '^aws_iot_jobs{' >"$work/metrics"; then break; fi
  sleep 0.2
done
[ -s "$work/metrics" ] || fail "/metrics has no jobs: $(cat "$work/exporter.log")"
head -n 2 "$work/metrics"

step "upgrade, remove, purge"
sed -i '$a # an edit of the administrator' "$root/etc/$name/exporter.yml"
rm -rf "$work/next"
dpkg-deb --raw-extract "$deb" "$work/next"
sed -i 's/^Version: .*/Version: 99.0-1/' "$work/next/DEBIAN/control"
dpkg-deb --build --root-owner-group "$work/next" "$root/root/two.deb" >/dev/null
in_root apt-get install --yes /root/two.deb >"$work/upgrade.log" 2>&1 || fail "$(cat "$work/upgrade.log")"
grep -q 'an edit of the administrator' "$root/etc/$name/exporter.yml" || fail "an upgrade replaced exporter.yml"
in_root dpkg-query --show "$name"
in_root apt-get remove --yes "$name" >/dev/null 2>&1
[ ! -e "$root/usr/bin/$name" ] || fail "the program is there after remove"
[ -e "$root/etc/$name/exporter.yml" ] || fail "remove deleted the configuration"
in_root apt-get purge --yes "$name" >/dev/null 2>&1
left="$(find "$root/etc" "$root/usr" "$root/var/lib" -path "*$name*" -not -path '*/apt/*' -not -path '*/dpkg/*')"
[ -z "$left" ] || fail "purge left $left"
printf '\nThe archive, the deb and the rpm work.\n'
