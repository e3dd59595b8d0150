package main

// The words of the program.
const (
	imageUse   = "anchorhold-image --name NAME --base FILE --package FILE... --files DIR --out DIR"
	imageShort = "Make a guest image, the same bytes from the same inputs"
	imageLong  = `Makes a Debian guest with the agent: a root file system that is never written, hashes over each block
of it, and a unified kernel image with their root hash, on one disk. Nobody can log in to the guest, and
it takes no configuration from its host: what it needs to know is in --files, public, and measured.

--base is an archive of a root made by mmdebstrap (docs/image.md); --package installs packages into it:
anchorhold-common and anchorhold-agent, and more if need be. Packages for another architecture than amd64
are refused at once, and so are configurations in --files that the agent of that package refuses
('anchorhold-agent check --root').
SOURCE_DATE_EPOCH is the only time in the image. Beside the disk lie the unified kernel image, which
anchorhold-measure reads, and a list of everything with digests.

It needs mmdebstrap and, unless --tools names a tree that has them, erofs-utils, cryptsetup-bin,
systemd-ukify, systemd-boot-efi, dosfstools, mtools, fdisk and xz-utils. It runs without root where
mmdebstrap does (uidmap, and lines in /etc/subuid and /etc/subgid); --tools needs root.

Exit status: 0 done, 1 failed, 2 wrong command line.`
	imageExample = `  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) anchorhold-image --name web-7 --base image.tar \
    --package anchorhold-common.deb --package anchorhold-agent.deb --files web --out web-7`

	flagName    = "the name of the image and of its files"
	flagBase    = "an archive of a Debian root with the packages of the image"
	flagPackage = "a package to install, a file (repeatable)"
	flagFiles   = "a directory whose files are added below /"
	flagInitrd  = "the program of the initial RAM disk"
	flagOption  = "a word for the kernel's command line (repeatable)"
	flagTools   = "a tree with the tools, in place of this machine"
	flagOut     = "the new directory for the results"

	defaultInitrd = "/usr/lib/anchorhold/anchorhold-initrd"

	needsDate = "SOURCE_DATE_EPOCH is required: the time of the image in seconds, such as that of the commit (git log -1 --format=%ct)"
	fileText  = "%-20s %11d bytes  sha256 %s\n"
	madeText  = "root hash %s, %d packages: %s\n"
)
