package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// bootModules are what the kernel needs to find and to verify the root, on the machines that images are for: virtio,
// NVMe and SCSI disks, those of Hyper-V and Xen; and to look at the firmware's variables before systemd does. Drivers of networks and
// the rest are loaded from the root.
func bootModules() []string {
	return []string{"virtio_blk", "virtio_scsi", "sd_mod", "nvme", "hv_storvsc", "xen_blkfront", "erofs", "dm_verity", "efivarfs"}
}

// archive is a cpio archive of the form "newc", which the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	bytes.Buffer
	when int64
	next int
}

func (a *archive) add(name string, mode fs.FileMode, kind uint32, data []byte) {
	const align = 4
	a.next++
	links := 1
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", a.next, kind|uint32(mode), 0, 0, links, a.when, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad(align)
	a.Write(data)
	a.pad(align)
}

func (a *archive) pad(to int) {
	for a.Len()%to != 0 {
		a.WriteByte(0)
	}
}

// Kinds of entries, as in a mode of stat(2).
const (
	kindFile      = 0o100000
	kindDirectory = 0o040000
)

// makeInitrd makes the initial RAM disk: the program, and the modules in the order in which they are loaded.
func makeInitrd(program []byte, modules []module, when int64) []byte {
	a := &archive{when: when}
	for _, dir := range []string{"dev", "modules", "proc", "root", "run", "sys"} {
		a.add(dir, directoryMode, kindDirectory, nil)
	}
	a.add("init", directoryMode, kindFile, program)
	for i, m := range modules {
		a.add(fmt.Sprintf("modules/%02d-%s.ko", i, m.name), fileMode, kindFile, m.data)
	}
	a.add("TRAILER!!!", 0, 0, nil)
	const block = 512
	a.pad(block)
	return a.Bytes()
}

// module is a kernel module as the kernel loads it.
type module struct {
	name string
	data []byte
}

// kernelOf returns the one kernel of a tree and its version.
func kernelOf(t *Tree) (version string, kernel []byte, err error) {
	names, err := t.Names("boot/vmlinuz-*")
	if err != nil {
		return "", nil, err
	}
	if len(names) != 1 {
		return "", nil, fmt.Errorf("got %d kernels in /boot, want one: %s", len(names), strings.Join(names, ", "))
	}
	kernel, err = t.File(names[0])
	return strings.TrimPrefix(names[0], "boot/vmlinuz-"), kernel, err
}

// modulesOf returns the modules of a boot, each behind those that it needs.
func modulesOf(ctx context.Context, t *Tree, tools Tools, work, version string, wanted []string) ([]module, error) {
	dir := "usr/lib/modules/" + version
	raw, err := t.File(dir + "/modules.dep")
	if err != nil {
		return nil, err
	}
	builtin, err := t.File(dir + "/modules.builtin")
	if err != nil {
		return nil, err
	}
	order, err := loadOrder(string(raw), string(builtin), wanted)
	if err != nil {
		return nil, err
	}
	var all []module
	for _, name := range order {
		data, err := t.File(dir + "/" + name)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(name, ".xz") {
			if data, err = unpack(ctx, tools, work, data); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		all = append(all, module{moduleName(name), data})
	}
	return all, nil
}

func unpack(ctx context.Context, tools Tools, work string, data []byte) ([]byte, error) {
	const name = "module.xz"
	if err := os.WriteFile(filepath.Join(work, name), data, fileMode); err != nil {
		return nil, err
	}
	out, err := tools.run(ctx, work, "xz", "--decompress", "--stdout", name)
	return out, errors.Join(err, os.Remove(filepath.Join(work, name)))
}

// moduleName is the kernel's name of a module's file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// loadOrder reads modules.dep, where each line has a module's file and then what it needs, the last of which is loaded first.
func loadOrder(dep, builtin string, wanted []string) (order []string, err error) {
	inKernel, files, needs := map[string]bool{}, map[string]string{}, map[string][]string{}
	for _, file := range strings.Fields(builtin) {
		inKernel[moduleName(file)] = true
	}
	for line := range strings.Lines(dep) {
		file, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep has the line %q", line)
		}
		files[moduleName(file)], needs[moduleName(file)] = file, strings.Fields(rest)
	}
	for _, name := range wanted {
		if inKernel[name] {
			continue
		}
		if files[name] == "" {
			return nil, fmt.Errorf("the kernel has no module %s", name)
		}
		before := slices.Clone(needs[name])
		slices.Reverse(before)
		for _, file := range append(before, files[name]) {
			if !slices.Contains(order, file) {
				order = append(order, file)
			}
		}
	}
	return order, nil
}
