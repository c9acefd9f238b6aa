# The exporter on a distroless image, which has no shell and no package manager. It runs as an unprivileged user and writes no files,
# so the root filesystem can be read-only.
#
#   docker buildx build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag aws-iot-jobs-exporter:0.1.0 .
#   docker run --read-only --publish 127.0.0.1:10114:10114 aws-iot-jobs-exporter:0.1.0 demo --web.listen-address=:10114
#
# `--platform linux/amd64,linux/arm64` also builds for arm64. The platform that is not the machine's own is emulated, which is slow.
# config/container/build.sh builds the image with buildah, checks it, and runs it with podman.
#
# podman and buildah keep the health check only with `--format docker`. Tags can move to another image. To pin an image, append the
# digest that `docker buildx imagetools inspect IMAGE` prints: IMAGE@sha256:….

# The same Debian release as the image below, because the program uses that image's C library.
FROM docker.io/library/rust:1.95.0-slim-trixie AS build
# `dev` builds faster, to test this file.
ARG PROFILE=release
WORKDIR /source
# The dependencies are a layer of their own, which is built again only if one of these two files changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/integration \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs tests/integration/main.rs \
    && cargo build --locked --profile "$PROFILE" \
    # Without this, cargo would keep the empty program: it is newer than the real sources.
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
# The base image's `nonroot`. As a number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
EXPOSE 10114
# The health check does not see the exporter's arguments or its file. If the exporter does not listen on :10114, or uses TLS there, set
# IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES or IOT_JOBS_EXPORTER_WEB__PROBE_ADDRESS. The exporter and the health check both read them.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/aws-iot-jobs-exporter", "--health.check"]
ENTRYPOINT ["/usr/local/bin/aws-iot-jobs-exporter"]
