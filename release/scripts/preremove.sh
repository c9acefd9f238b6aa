#!/bin/sh
# deb: remove, or upgrade VERSION. rpm: the number of versions that remain.
set -e
case "$1" in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl --no-reload disable --now aws-iot-jobs-exporter.service
    fi
    ;;
esac
