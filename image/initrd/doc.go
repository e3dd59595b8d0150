// Package initrd is what runs before systemd in a guest of the image: it makes the root hash of the kernel's command line
// the root of everything that runs.
//
// [Boot] loads the kernel modules that lie beside it, refuses options for systemd among the firmware's variables, which nobody
// measures ([CheckVariables]), finds the two partitions that are named after the root hash
// ([ParseCommandLine], [FindRoot]), puts dm-verity between the disk and the file system ([ParseSuperblock], [Device]),
// and starts the service manager of the verified root. The unified kernel image holds both this program and the command line, so
// that what is measured of it stands for every byte of the root.
//
// The host writes the disk and may attach others. Partition tables and dm-verity's superblock are taken as claims: ids, sizes and
// parameters have to be exactly those of an image that image/build makes, and the kernel verifies each block before
// anyone sees it. A block that differs ends the machine. There is no shell and no second way: each failure is a line
// with a stable reason on the console and the end of the machine.
//
// docs/image.md lists the reasons.
package initrd
