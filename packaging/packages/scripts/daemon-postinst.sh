#!/bin/sh
set -e
case "$1" in configure | 1 | 2) ;; *) exit 0 ;; esac
# Before the new daemon writes anything: see preinst.
mkdir -p /var/lib/anchorhold
printf '%s\n' '@VERSION@' >/var/lib/anchorhold/.@STATE@.version
mv -f /var/lib/anchorhold/.@STATE@.version /var/lib/anchorhold/@STATE@.version
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # Only what runs. It is not enabled or started here: its configuration decides whom it serves.
  systemctl try-restart @SERVICE@ ||
    echo "@NAME@: @SERVICE@ did not start again after the update; see journalctl -u @SERVICE@" >&2
fi
