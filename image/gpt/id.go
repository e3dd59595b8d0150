package gpt

import (
	"encoding/hex"
	"slices"
	"strings"
)

// ID is a GUID in the order in which it is written in text, which is not that of a table's bytes.
type ID [16]byte

// Types of the Discoverable Partitions Specification for x86-64.
var (
	TypeSystem     = mustID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b") // the EFI system partition
	TypeRoot       = mustID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
	TypeRootVerity = mustID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
)

func mustID(text string) (id ID) {
	if n, err := hex.Decode(id[:], []byte(strings.ReplaceAll(text, "-", ""))); err != nil || n != len(id) {
		panic("gpt: " + text) // a constant above
	}
	return id
}

// RootIDs are the ids of the partitions of a root hash: its first half names the root, its second the hashes.
func RootIDs(rootHash [32]byte) (root, verity ID) {
	copy(root[:], rootHash[:16])
	copy(verity[:], rootHash[16:])
	return root, verity
}

// idOf reads an id out of a table, where its first three fields have the lowest byte first.
func idOf(raw []byte) (id ID) {
	copy(id[:], raw)
	slices.Reverse(id[:4])
	slices.Reverse(id[4:6])
	slices.Reverse(id[6:8])
	return id
}

// String is the usual form.
func (id ID) String() string {
	text := hex.EncodeToString(id[:])
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}
