// Package gpt reads GUID partition tables of disks with blocks of 512 bytes: the one at the disk's beginning, if its
// checksums are right.
//
// The host writes the disk, so a table proves nothing. Whoever measures it takes [Table.Header] and [Table.Entries] as
// they are, and whoever mounts a partition finds it by ids that follow from a root hash, and verifies each block that it
// reads.
//
// Format: UEFI Specification 2.10, section 5.3; types and ids: the UAPI group's Discoverable Partitions Specification.
package gpt
