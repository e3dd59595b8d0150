package build

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// guestFiles are added to every image: the tree below guest.
//
//go:embed guest
var guestFiles embed.FS

// removed are patterns of what no guest has, by the reason.
func removed() map[string][]string {
	return map[string][]string{
		"what is made at run time": {"boot/", "vmlinuz*", "initrd.img*", "dev/", "proc/", "sys/", "run/", "tmp/", "var/", "media", "mnt/", "srv", ".dockerenv"},
		"ways to log in": {"usr/sbin/agetty", "usr/sbin/getty", "usr/sbin/sulogin", "usr/bin/login", "usr/bin/su", "usr/bin/newgrp", "usr/bin/sg", "usr/bin/passwd", "usr/bin/chsh", "usr/bin/chfn",
			"usr/bin/gpasswd", "usr/bin/expiry", "usr/bin/chage", "usr/sbin/runuser", "usr/sbin/sshd", "usr/bin/ssh*", "etc/ssh", "etc/securetty", "usr/lib/systemd/systemd-sulogin-shell",
			"usr/lib/systemd/system/*getty*", "usr/lib/systemd/system/debug-shell.service", "usr/lib/systemd/system/emergency.service", "usr/lib/systemd/system/rescue.service",
			"usr/lib/systemd/system/systemd-ask-password-*", "usr/lib/systemd/system/*.wants/systemd-ask-password-*", "usr/lib/systemd/system/systemd-firstboot.service",
			"usr/lib/systemd/system/systemd-storagetm.service", "etc/systemd/system/getty.target.wants"},
		"package management": {"usr/bin/apt*", "usr/lib/apt", "usr/bin/dpkg*", "usr/sbin/dpkg*", "usr/lib/dpkg", "usr/share/dpkg", "etc/apt", "etc/dpkg", "usr/bin/deb*", "usr/sbin/update-*", "usr/bin/update-*", "etc/alternatives/README",
			"usr/lib/*/libapt-*", "usr/bin/perl*", "usr/lib/*/perl-base", "usr/lib/*/perl", "usr/share/perl*", "etc/perl", "usr/bin/sqv", "usr/share/keyrings"},
		"the initial RAM disks of Debian": {"etc/initramfs-tools", "usr/share/initramfs-tools", "usr/lib/initramfs-tools", "usr/sbin/mkinitramfs", "usr/bin/*initramfs*", "usr/lib/klibc*", "usr/lib/dracut*", "etc/kernel", "usr/lib/kernel", "usr/share/linux-base"},
		"what explains to people":         {"usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/menu", "usr/share/bash-completion", "usr/share/zsh", "usr/share/fish", "usr/share/doc-base", "usr/lib/pcrlock.d", "usr/share/zoneinfo"},
		"habits of machines with users": {"etc/cron*", "etc/init.d", "etc/rc*.d", "etc/skel", "etc/motd", "etc/update-motd.d", "usr/games", "usr/include", "usr/local/games", "usr/src", "etc/logrotate.d", "etc/hostname", "etc/hosts", "etc/resolv.conf",
			"etc/fstab", "etc/machine-id", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid*", "etc/subgid*", "etc/.pwd.lock", "etc/mtab", "etc/ld.so.cache~", "root/.*"},
		"names of hardware": {"usr/lib/udev/hwdb.d", "usr/lib/udev/hwdb.bin", "etc/udev/hwdb.*"},
	}
}

// keptGenerators make units of what is in the image: /etc/fstab, /etc/crypttab, and the TPM. Others make them of the
// kernel's command line, of partitions that they find on disks, or of consoles.
func keptGenerators() []string {
	return []string{"systemd-fstab-generator", "systemd-cryptsetup-generator", "systemd-tpm2-generator"}
}

// keptRules are of udev: names and permissions of disks, of the TPM and of TEEs, and drivers. The rest is about
// hardware of desktops, and costs an emulated processor ten seconds.
func keptRules() []string {
	return []string{"50-udev-default.rules", "55-dm.rules", "60-block.rules", "60-persistent-storage.rules", "60-persistent-storage-dm.rules", "60-tpm-udev.rules",
		"70-anchorhold-agent.rules", "80-drivers.rules", "95-dm-notify.rules", "99-systemd.rules"}
}

// keptTmpfiles make directories of what runs; others are about what the root has already, or never will.
func keptTmpfiles() []string {
	return []string{"anchorhold.conf", "cryptsetup.conf", "systemd.conf", "systemd-network.conf", "tmp.conf", "var.conf"}
}

// masked are units that a guest never runs: some would take input from the host, some take seconds of a boot.
func masked() []string {
	return []string{
		"debug-shell.service", "emergency.service", "rescue.service", "emergency.target", "rescue.target", "console-getty.service", "getty.target", "ctrl-alt-del.target", "kexec.target",
		"systemd-firstboot.service", "systemd-sysext.service", "systemd-sysext.socket", "systemd-confext.service", "systemd-storagetm.service", "systemd-network-generator.service", "systemd-udev-load-credentials.service",
		"systemd-hostnamed.socket", "systemd-hostnamed.service", "systemd-logind.service", "systemd-user-sessions.service", "systemd-creds.socket", "systemd-initctl.socket", "systemd-initctl.service", "systemd-pcrlock.socket", "systemd-bsod.service",
		"systemd-machine-id-commit.service", "systemd-sysusers.service", "systemd-hwdb-update.service", "systemd-update-done.service", "systemd-journal-catalog-update.service", "systemd-journal-flush.service", "ldconfig.service",
		"systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount", "dev-mqueue.mount",
		"systemd-pstore.service", "systemd-hibernate-clear.service", "systemd-rfkill.socket", "systemd-remount-fs.service", "systemd-random-seed.service", "systemd-boot-check-no-failures.service", "kmod-static-nodes.service", "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service",
		// The machine's id is random, and a register with it says nothing. Nobody here needs a storage root key before it asks for one.
		"systemd-pcrmachine.service", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service", "quotaon.service",
		"e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "remote-fs.target", "systemd-networkd-persistent-storage.service",
	}
}

// enabled are the units that start, by the target that wants them. Nothing waits for the network (network-online.target has no
// systemd-networkd-wait-online.service): the agent tries again after a second, and its API answers before.
func enabled() map[string][]string {
	return map[string][]string{
		"local-fs.target":   {"var.mount"},
		"sockets.target":    {"anchorhold-agent.socket", "systemd-networkd.socket"},
		"multi-user.target": {"anchorhold-agent.service", "anchorhold-worker.socket", "systemd-networkd.service"},
	}
}

// cleanUp makes a guest's root of a tree in which the packages were installed.
func cleanUp(t *Tree) error {
	list, err := t.File("var/lib/dpkg/status") // before /var goes
	if err != nil {
		return err
	}
	for _, patterns := range removed() {
		for _, p := range patterns {
			if err := t.Remove(p); err != nil {
				return err
			}
		}
	}
	for dir, kept := range map[string][]string{"usr/lib/systemd/system-generators": keptGenerators(), "usr/lib/udev/rules.d": keptRules(), "usr/lib/tmpfiles.d": keptTmpfiles()} {
		if err := keepOnly(t, dir, kept); err != nil {
			return err
		}
	}
	if err := pruneDocuments(t); err != nil {
		return err
	}
	t.Put("usr/lib/anchorhold-image/dpkg-status", fileMode, list) // for scanners of images
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "var", "root", "etc/anchorhold"} {
		t.Directory(dir)
	}
	if err := addFS(t, guestFiles, "guest"); err != nil {
		return err
	}
	for _, unit := range masked() {
		t.Link("etc/systemd/system/"+unit, "/dev/null")
	}
	for target, units := range enabled() {
		for _, unit := range units {
			t.Link("etc/systemd/system/"+target+".wants/"+unit, "/usr/lib/systemd/system/"+unit)
		}
	}
	t.Link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
	// Nobody is there who would need another user's rights.
	for _, e := range t.entries {
		if e.Typeflag == tar.TypeReg {
			e.Mode &^= setID
		}
	}
	return lockAccounts(t)
}

// keepOnly removes the other files of a directory.
func keepOnly(t *Tree, dir string, kept []string) error {
	names, err := t.Names(dir + "/*")
	for _, name := range names {
		if !slices.Contains(kept, path.Base(name)) {
			delete(t.entries, name)
		}
	}
	return err
}

// setID are the bits that run a program as its owner or group.
const setID = 0o6000

// pruneDocuments keeps the licences.
func pruneDocuments(t *Tree) error {
	maps.DeleteFunc(t.entries, func(name string, _ *entry) bool {
		rest, doc := strings.CutPrefix(name, "usr/share/doc/")
		return doc && strings.Contains(rest, "/") && path.Base(rest) != "copyright" && !strings.HasPrefix(path.Base(rest), "THIRD-PARTY-NOTICES")
	})
	return nil
}

// lockAccounts takes every password, and the days on which they were set.
func lockAccounts(t *Tree) error {
	for name, fields := range map[string]int{"etc/shadow": 9, "etc/gshadow": 4} {
		raw, err := t.File(name)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		for line := range strings.Lines(string(raw)) {
			parts := strings.Split(strings.TrimSuffix(line, "\n"), ":")
			if len(parts) != fields {
				return fmt.Errorf("/%s: %q has %d fields, want %d", name, line, len(parts), fields)
			}
			if parts[1] = "!*"; name == "etc/shadow" {
				parts[2] = ""
			}
			fmt.Fprintln(&out, strings.Join(parts, ":"))
		}
		t.entries[name].data = out.Bytes()
	}
	return nil
}

// addFS adds the files and links below a directory; programs keep their mode.
func addFS(t *Tree, files fs.FS, root string) error {
	return fs.WalkDir(files, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		to := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		if to == "" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := fs.ReadLink(files, name)
			if err != nil {
				return err
			}
			t.Link(to, target)
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither a file, a directory nor a symbolic link", name)
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		mode := int64(fileMode)
		if info.Mode()&0o100 != 0 {
			mode = directoryMode // a program's is the same
		}
		t.Put(to, mode, data)
		return nil
	})
}
