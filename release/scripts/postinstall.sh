#!/bin/sh
# deb: configure [OLD VERSION]. rpm: the number of versions that are installed now.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # An upgrade restarts a service that runs. A new one is started by the administrator, once it is configured.
  systemctl try-restart aws-iot-jobs-exporter.service
fi
