#!/bin/sh
set -e
case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
  fi
  if [ -e /var/lib/anchorhold/@STATE@ ]; then
    echo "@NAME@: the state in /var/lib/anchorhold/@STATE@ stays." >&2
  fi
  ;;
purge)
  if [ -e /var/lib/anchorhold/@STATE@ ] || [ -L /var/lib/anchorhold/@STATE@ ]; then
    echo "@NAME@: deleting /var/lib/anchorhold/@STATE@, and with it @LOST@." >&2
    rm -rf --one-file-system /var/lib/anchorhold/@STATE@
  fi
  rm -f /var/lib/anchorhold/@STATE@.version
  # Others' state, and what an administrator put there, stays.
  rmdir /var/lib/anchorhold 2>/dev/null || true
  ;;
esac
