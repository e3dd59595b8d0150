package initrd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/image/gpt"
)

// Reasons of finding the root.
const (
	// ReasonNoRoot: no disk has the partitions of the root hash, or not yet.
	ReasonNoRoot refusal.Reason = "root-not-found"
	// ReasonAmbiguous: more than one partition has the ids of the root hash.
	ReasonAmbiguous refusal.Reason = "root-ambiguous"
	// ReasonPartition: the kernel sees a partition at another place than its table says.
	ReasonPartition refusal.Reason = "partition-mismatch"
)

const maxDisks = 64

// Partition is one that the kernel knows.
type Partition struct {
	// Device is its number, as in 254:1.
	Device string
	// Sectors is its size in units of 512 bytes.
	Sectors uint64
}

// Disks are the kernel's block devices.
type Disks struct {
	// Block is the directory of block devices, /sys/block.
	Block fs.FS
	// Open opens a device by number.
	Open func(number string) (io.ReaderAt, func() error, error)
}

// FindRoot looks for the partitions of a root hash on all disks: by type and id in the table of a disk, which it reads itself, and
// never by a name. A disk without a table is none of ours.
func (d Disks) FindRoot(rootHash [32]byte) (root, verity Partition, err error) {
	rootID, verityID := gpt.RootIDs(rootHash)
	disks, err := fs.ReadDir(d.Block, ".")
	if err != nil {
		return root, verity, refusal.New(ReasonNoRoot, "list the disks: %w", err)
	}
	if len(disks) > maxDisks {
		return root, verity, refusal.New(ReasonAmbiguous, "got %d disks, want at most %d", len(disks), maxDisks)
	}
	var roots, verities []Partition
	for _, disk := range disks {
		table, err := d.table(disk.Name())
		if err != nil {
			continue // empty, of another use, or gone
		}
		for _, e := range table.Entries {
			for _, want := range []struct {
				kind, id gpt.ID
				found    *[]Partition
			}{{gpt.TypeRoot, rootID, &roots}, {gpt.TypeRootVerity, verityID, &verities}} {
				if e.Type != want.kind || e.ID != want.id {
					continue
				}
				p, err := d.partition(disk.Name(), e)
				if err != nil {
					return root, verity, err
				}
				*want.found = append(*want.found, p)
			}
		}
	}
	switch {
	case len(roots) == 0 || len(verities) == 0:
		return root, verity, refusal.New(ReasonNoRoot, "%d disks have %d partitions with the id %s and %d with %s", len(disks), len(roots), rootID, len(verities), verityID)
	case len(roots) > 1 || len(verities) > 1:
		return root, verity, refusal.New(ReasonAmbiguous, "%d partitions have the id %s and %d have %s", len(roots), rootID, len(verities), verityID)
	}
	return roots[0], verities[0], nil
}

func (d Disks) table(disk string) (*gpt.Table, error) {
	number, err := d.text(disk, "dev")
	if err != nil {
		return nil, err
	}
	r, closeDisk, err := d.Open(number)
	if err != nil {
		return nil, err
	}
	table, err := gpt.Read(r)
	return table, errors.Join(err, closeDisk())
}

// partition is what the kernel knows of an entry; it must lie where the entry says.
func (d Disks) partition(disk string, e gpt.Entry) (p Partition, err error) {
	parts, err := fs.ReadDir(d.Block, disk)
	if err != nil {
		return p, refusal.New(ReasonPartition, "%s: %w", disk, err)
	}
	for _, part := range parts {
		if n, err := d.text(path.Join(disk, part.Name()), "partition"); err != nil || n != strconv.Itoa(e.Number) {
			continue
		}
		dir := path.Join(disk, part.Name())
		first, err1 := d.number(dir, "start")
		size, err2 := d.number(dir, "size")
		number, err3 := d.text(dir, "dev")
		if err := errors.Join(err1, err2, err3); err != nil {
			return p, refusal.New(ReasonPartition, "partition %d of %s: %w", e.Number, disk, err)
		}
		if first != e.First || size != e.Last-e.First+1 {
			return p, refusal.New(ReasonPartition, "partition %d of %s is %d blocks at %d for the kernel, and blocks %d to %d in the table", e.Number, disk, size, first, e.First, e.Last)
		}
		return Partition{number, size}, nil
	}
	return p, refusal.New(ReasonPartition, "the kernel does not know partition %d of %s", e.Number, disk)
}

func (d Disks) text(dir, name string) (string, error) {
	raw, err := fs.ReadFile(d.Block, path.Join(dir, name))
	return strings.TrimSpace(string(raw)), err
}

func (d Disks) number(dir, name string) (uint64, error) {
	text, err := d.text(dir, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}
