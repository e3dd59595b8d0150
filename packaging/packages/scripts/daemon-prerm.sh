#!/bin/sh
set -e
case "$1" in remove | 0) ;; *) exit 0 ;; esac
if [ -d /run/systemd/system ]; then
  systemctl stop @UNITS@
fi
systemctl --no-reload disable @UNITS@ 2>/dev/null || echo "@NAME@: some of @UNITS@ could not be disabled" >&2
