#!/bin/sh
set -e
case "$1" in configure | 1 | 2) ;; *) exit 0 ;; esac
systemd-sysusers anchorhold.conf
systemd-tmpfiles --create anchorhold.conf || echo "anchorhold-common: systemd-tmpfiles could not make every directory" >&2
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
