#!/bin/sh
# The users stay: files that are theirs may be left, and their numbers must not become others'.
set -e
case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
  fi
  ;;
purge)
  rmdir /run/anchorhold /var/lib/anchorhold 2>/dev/null || true
  ;;
esac
