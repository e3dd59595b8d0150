#!/bin/sh
# Refuses to go below the version that wrote the state, by whatever way: a newer daemon may have
# written what an older one cannot read, or what it would take for damage.
set -e
case "$1" in install | upgrade | 1 | 2) ;; *) exit 0 ;; esac
marker=/var/lib/anchorhold/@STATE@.version
[ -e "$marker" ] || [ -L "$marker" ] || exit 0
theirs=$(head -c 200 "$marker" | head -n 1)
case "$theirs" in
"" | *[!0-9A-Za-z.+~]* | [!0-9]*)
  echo "@NAME@: $marker does not name the version that wrote /var/lib/anchorhold/@STATE@. If it was @VERSION@ or an older one, remove this file and install again." >&2
  exit 1 ;;
esac
newer=$(printf '%s\n' "$theirs" '@VERSION@' | LC_ALL=C sort -V | tail -n 1)
if [ "$newer" != '@VERSION@' ]; then
  echo "@NAME@: version @VERSION@ is older than $theirs, which wrote the state in /var/lib/anchorhold/@STATE@, and may not be able to read it. Install $theirs or a newer version. To go back all the same, put a backup made by @VERSION@ or an older version into place, remove $marker, and install again." >&2
  exit 1
fi
