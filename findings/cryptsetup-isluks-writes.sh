#!/usr/bin/env bash
# cryptsetup 2.6.1 (Debian 12): questions about a LUKS2 image write to it. LUKS2 keeps its header twice. Where one
# copy is damaged, isLuks, luksUUID, luksDump (with --dump-json-metadata, too) and a test of a passphrase,
# even of a wrong one, restore it from the other, with --readonly as well, and none of them says that
# they wrote. So a look at an image changes its digest, and the sign that a copy was ever damaged is
# gone once anything asked what the file is. What they write is not the old copy either: it gets a new
# salt and checksum, so the digest from before the damage does not come back. An image with two
# whole copies is not written to.
#
# Wants apt-get with Debian 12's package lists. No device is mapped.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq -o APT::Sandbox::User=root cryptsetup-bin=2:2.6.1-4~deb12u2 libcryptsetup12=2:2.6.1-4~deb12u2 libpopt0 libdevmapper1.02.1 libjson-c5 libargon2-1 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
export PATH="$dir/root/sbin:$PATH"
export LD_LIBRARY_PATH="$dir/root/lib/x86_64-linux-gnu:$dir/root/usr/lib/x86_64-linux-gnu"
cryptsetup --version

truncate -s 20M whole.img
echo -n right | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 whole.img -
cp whole.img first.img; dd if=/dev/zero of=first.img bs=4096 count=1 conv=notrunc status=none
cp whole.img second.img; dd if=/dev/zero of=second.img bs=4096 seek=4 count=1 conv=notrunc status=none

same=yes
ask() { # image, whether it is stated to be written to, arguments
	local image=$1 stated=$2 said rc=0 wrote=no
	shift 2
	cp "$image.img" asked.img
	said=$(echo -n wrong | cryptsetup "$@" asked.img 2>&1) || rc=$?
	cmp -s "$image.img" asked.img || wrote=yes
	grep -qiE 'repair|recover|restor|damag|wr[io]t|corrupt' <<<"$said" && said=yes || said=no
	printf '%-18s %-42s exit %d, file written: %s, a word of it: %s\n' "$image copy:" "$*" $rc $wrote $said
	[ "$wrote $said" = "$stated no" ] || same=no
}
for question in "isLuks" "isLuks --readonly" "luksUUID --readonly" "luksDump --readonly" "luksDump --dump-json-metadata" \
	"open --readonly --test-passphrase"; do
	ask whole no $question
	ask first yes $question
	ask second yes $question
done
# the header's salt: 64 bytes at 0x68, its checksum: 64 at 0x1c0
cp first.img asked.img; cryptsetup isLuks asked.img
cut_out() { { head -c 104 "$1"; tail -c +169 "$1" | head -c 280; tail -c +513 "$1"; } | cksum; }
back=$(cmp -s whole.img asked.img && echo yes || echo no)
rest=$([ "$(cut_out whole.img)" = "$(cut_out asked.img)" ] && echo yes || echo no)
echo "after isLuks the image is what it was before the damage: $back; but for salt and checksum: $rest"
[ "$same $back $rest" = "yes no yes" ] && echo "as stated" || { echo "CHANGED: this is not what the finding states"; exit 1; }
