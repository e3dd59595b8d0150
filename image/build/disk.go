package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/image/gpt"
)

const (
	mebibyte = 1 << 20
	// diskAlign is where partitions begin.
	diskAlign = mebibyte
	// minSystemBytes is the least size at which FAT32 with clusters of one block has enough of them for
	// firmware to believe that it is FAT32.
	minSystemBytes = 40 * mebibyte
	// systemSlack is for the tables of the file system.
	systemSlack = 2 * mebibyte
	bootFile    = "BOOTX64.EFI"
	systemImage = "system.fat"
)

// makeSystem makes the EFI system partition, with the unified kernel image as what firmware starts by default.
func (i *Image) makeSystem(ctx context.Context) error {
	uki := filepath.Join(i.work, i.uki())
	info, err := os.Stat(uki)
	if err != nil {
		return err
	}
	size := max(minSystemBytes, (info.Size()+systemSlack+diskAlign-1)/diskAlign*diskAlign)
	f, err := os.Create(filepath.Join(i.work, systemImage))
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Chtimes(uki, i.Tools.When, i.Tools.When)); err != nil {
		return err
	}
	serial := i.uuid("system")
	for _, step := range [][]string{
		{"mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "-i", fmt.Sprintf("%x", serial[:4]), "--invariant", systemImage},
		{"mmd", "-i", systemImage, "::EFI", "::EFI/BOOT"},
		{"mcopy", "-m", "-i", systemImage, i.uki(), "::EFI/BOOT/" + bootFile},
	} {
		if _, err := i.Tools.run(ctx, i.work, step[0], step[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// partition is one of the disk: a file, its type and id, and where it begins.
type partition struct {
	file, name string
	kind, id   gpt.ID
	at, size   int64
}

// makeDisk puts the partitions onto a disk. The ids of root and hashes are the halves of the root hash.
func (i *Image) makeDisk(ctx context.Context) (string, error) {
	if err := i.makeSystem(ctx); err != nil {
		return "", err
	}
	rootID, verityID := gpt.RootIDs(i.hash)
	parts := []partition{
		{file: systemImage, name: "esp", kind: gpt.TypeSystem, id: i.uuid("system partition")},
		{file: i.root(), name: "root-x86-64", kind: gpt.TypeRoot, id: rootID},
		{file: i.after(), name: "root-x86-64-verity", kind: gpt.TypeRootVerity, id: verityID},
	}
	script := fmt.Sprintf("label: gpt\nlabel-id: %s\nunit: sectors\nfirst-lba: %d\n", i.uuid("disk"), diskAlign/gpt.BlockBytes)
	at := int64(diskAlign)
	for n := range parts {
		p := &parts[n]
		info, err := os.Stat(filepath.Join(i.work, p.file))
		if err != nil {
			return "", err
		}
		if p.at, p.size = at, info.Size(); p.size%gpt.BlockBytes != 0 {
			return "", fmt.Errorf("%s has %d bytes, which are no blocks", p.file, p.size)
		}
		script += fmt.Sprintf("start=%d, size=%d, type=%s, uuid=%s, name=%s\n", at/gpt.BlockBytes, p.size/gpt.BlockBytes, p.kind, p.id, p.name)
		at = (at + p.size + diskAlign - 1) / diskAlign * diskAlign
	}
	size := at + diskAlign // the copy of the table
	disk, err := os.Create(filepath.Join(i.work, i.disk()))
	if err != nil {
		return "", err
	}
	err = disk.Truncate(size)
	if err = errors.Join(err, disk.Close(), i.write("partitions", []byte(script))); err != nil {
		return "", err
	}
	if _, err := i.Tools.run(ctx, i.work, "sh", "-c", "exec sfdisk --quiet --no-reread --no-tell-kernel "+i.disk()+" <partitions"); err != nil {
		return "", err
	}
	if err := i.fill(parts); err != nil {
		return "", err
	}
	return mebibytes(size), nil
}

func (i *Image) fill(parts []partition) (err error) {
	disk, err := os.OpenFile(filepath.Join(i.work, i.disk()), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	for _, p := range parts {
		in, err := os.Open(filepath.Join(i.work, p.file))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.NewOffsetWriter(disk, p.at), in)
		if err = errors.Join(err, in.Close()); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	return nil
}
