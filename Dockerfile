# The exporter on a distroless image: no shell, no package manager, nobody's root. It writes nothing, so the root filesystem can be
# read-only.
#
#   docker buildx build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag aws-iot-jobs-exporter:0.1.0 .
#   docker run --read-only --publish 127.0.0.1:10114:10114 aws-iot-jobs-exporter:0.1.0 demo --web.listen-address=:10114
#
# For arm64 too: `--platform linux/amd64,linux/arm64`, which compiles the other one emulated, and slowly; on a machine of its own kind it
# is as fast. config/container/build.sh builds the image, judges it and runs it, with buildah and podman.
#
# podman and buildah need `--format docker` to keep the health check. Tags move, and those of distroless most of all. To pin the bytes,
# append the digest that `docker buildx imagetools inspect IMAGE` tells, as IMAGE@sha256:….

# Of the same Debian as the one below, since the program takes the C library from there.
FROM docker.io/library/rust:1.95.0-slim-trixie AS build
# `dev` is quick to build, for a look whether this file works.
ARG PROFILE=release
WORKDIR /source
# The dependencies in a layer of their own, which holds until one of these two files changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/integration \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs tests/integration/main.rs \
    && cargo build --locked --profile "$PROFILE" \
    # Or cargo, which goes by times, would take the program that does nothing for newer than the real one.
    && cargo clean --locked --profile "$PROFILE" --package aws-iot-jobs-exporter \
    && rm -r src
COPY build.rs ./
COPY src src
# The commit, for --version and aws_iot_jobs_exporter_build_info.
ARG REVISION=
RUN EXPORTER_REVISION="$REVISION" cargo build --locked --profile "$PROFILE" \
    && install -D --mode 0555 "target/$(test "$PROFILE" = dev && echo debug || echo "$PROFILE")/aws-iot-jobs-exporter" \
        /image/usr/local/bin/aws-iot-jobs-exporter
COPY LICENSE-APACHE LICENSE-MIT /image/usr/share/doc/aws-iot-jobs-exporter/

FROM gcr.io/distroless/cc-debian13:nonroot
ARG REVISION=
# https://github.com/opencontainers/image-spec/blob/main/annotations.md
LABEL org.opencontainers.image.title="aws-iot-jobs-exporter" \
    org.opencontainers.image.description="Prometheus exporter for AWS IoT Jobs: jobs by status and thing group, and the progress of each rollout" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.url="https://github.com/aws-iot-jobs-exporter/aws-iot-jobs-exporter" \
    org.opencontainers.image.source="https://github.com/aws-iot-jobs-exporter/aws-iot-jobs-exporter" \
    org.opencontainers.image.documentation="https://github.com/aws-iot-jobs-exporter/aws-iot-jobs-exporter/blob/main/README.md" \
    org.opencontainers.image.base.name="gcr.io/distroless/cc-debian13:nonroot"
COPY --from=build /image /
# By number, for Kubernetes to see that it is not root; the same as the base image's `nonroot`.
USER 65532:65532
EXPOSE 10114
# Where it listens is known here by the environment and not by arguments or a file: where it is not :10114, or TLS is spoken there,
# set IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES or IOT_JOBS_EXPORTER_WEB__PROBE_ADDRESS, which the exporter itself goes by too.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/aws-iot-jobs-exporter", "--health.check"]
ENTRYPOINT ["/usr/local/bin/aws-iot-jobs-exporter"]
