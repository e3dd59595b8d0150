#!/usr/bin/env bash
# veritysetup 2.6.1 with mksquashfs 4.5.1 (Debian 12): format takes an image file whose length is no multiple
# of the data block without a word and leaves the bytes after the last whole block out. The root
# hash is that of the file cut there; nothing that it prints tells so, only the number of blocks. A device of
# that number of blocks ends there, too. SquashFS keeps its tables at the very end and needs no padding by
# its format (mksquashfs -nopad), so such an image gets a root hash and cannot be read through it:
# unsquashfs lists the image, and fails on the part of it that is hashed. Padded to 4 KiB, as mksquashfs
# does by default, all of it is hashed. The step that makes the hashes succeeds either way.
#
# Wants apt-get with Debian 12's package lists.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq -o APT::Sandbox::User=root cryptsetup-bin=2:2.6.1-4~deb12u2 libcryptsetup12=2:2.6.1-4~deb12u2 libpopt0 libdevmapper1.02.1 libjson-c5 \
	libargon2-1 squashfs-tools=1:4.5.1-1 liblzo2-2 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
export PATH="$dir/root/sbin:$dir/root/usr/sbin:$dir/root/usr/bin:$PATH"
export LD_LIBRARY_PATH="$dir/root/lib/x86_64-linux-gnu:$dir/root/usr/lib/x86_64-linux-gnu"
veritysetup --version; mksquashfs -version | head -1 || true

mkdir tree
for i in 1 2 3 4 5; do seq $((i * 1000)) >"tree/$i"; done
mksquashfs tree padded.img -quiet -no-progress -all-root >/dev/null
mksquashfs tree plain.img -quiet -no-progress -all-root -nopad >/dev/null

same=yes
expect() { # what, seen, stated
	echo "$1: $2"
	[ "$2" = "$3" ] || same=no
}
hash() { veritysetup format "$1" tree.hash --salt=- --uuid=00000000-0000-0000-0000-000000000000 2>&1; }
lists() { unsquashfs -l "$1" >/dev/null 2>&1 && echo lists its files || echo fails; }

for image in padded plain; do
	size=$(stat -c %s $image.img)
	said=$(hash $image.img)
	blocks=$(awk '/^Data blocks/ { print $3 }' <<<"$said")
	root=$(awk '/^Root hash/ { print $3 }' <<<"$said")
	head -c $((blocks * 4096)) $image.img >part.img
	part=$(hash part.img | awk '/^Root hash/ { print $3 }')
	echo "$image image, $size bytes: $blocks blocks of 4096 hashed, root hash ${root:0:16}"
	expect "  all bytes hashed" $([ $((blocks * 4096)) = "$size" ] && echo yes || echo no) $([ $image = padded ] && echo yes || echo no)
	expect "  warnings" "$(grep -ciE 'warn|align|ignor|trunc|multiple' <<<"$said" || true)" 0
	expect "  root hash of the whole blocks alone is the same" $([ "$part" = "$root" ] && echo yes || echo no) yes
	expect "  unsquashfs of the image" "$(lists $image.img)" "lists its files"
	expect "  unsquashfs of the hashed blocks" "$(lists part.img)" "$([ $image = padded ] && echo lists its files || echo fails)"
done
[ $same = yes ] && echo "as stated" || { echo "CHANGED: this is not what the finding states"; exit 1; }
