package luks

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
)

// cryptsetup runs the real program, which makes and opens headers in plain files without any privilege.
func cryptsetup(t *testing.T, key string, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath("cryptsetup")
	if err != nil {
		path = "/usr/sbin/cryptsetup" // where Debian has it, which is on root's path alone
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("cryptsetup is not installed (apt-get install cryptsetup-bin)")
	}
	c := exec.Command(path, append([]string{"--batch-mode", "--key-file=-"}, args...)...)
	c.Stdin = bytes.NewReader([]byte(key))
	return c.CombinedOutput()
}

// formatted is a file that cryptsetup formatted.
func formatted(t *testing.T, key string, args ...string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 32<<20); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"luksFormat", "--type=luks2", "--cipher=aes-xts-plain64", "--key-size=512"}, args...)
	if out, err := cryptsetup(t, key, append(args, disk)...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return disk
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// What cryptsetup made is accepted, with each derivation that it has, and the header written anew from it
// opens for the same key and no other. (Integrity protection needs the kernel's device mapper: the booted
// guest makes such volumes.)
func TestCryptsetupOpensTheDetachedHeader(t *testing.T) {
	for name, args := range map[string][]string{
		"PBKDF2":        {"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"},
		"Argon2id":      {"--pbkdf=argon2id", "--pbkdf-force-iterations=4", "--pbkdf-memory=32", "--pbkdf-parallel=1"},
		"other sizes":   {"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--luks2-metadata-size=64k", "--luks2-keyslots-size=512k"},
		"hash SHA-512":  {"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--hash=sha512"},
		"large sectors": {"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--sector-size=4096"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := formatted(t, "the key", args...)
			info, err := os.Stat(disk)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Read(open(t, disk), Options{DeviceBytes: info.Size()})
			refusaltest.Want(t, "without permission", err, ReasonUnauthenticated)
			h, err := Read(open(t, disk), Options{DeviceBytes: info.Size(), PermitUnauthenticated: true})
			if err != nil {
				t.Fatal(err)
			}
			file, err := h.Detached()
			if err != nil {
				t.Fatal(err)
			}
			header := filepath.Join(t.TempDir(), "header")
			if err := os.WriteFile(header, file, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(disk, bytes.Repeat([]byte{0xff}, 32<<20), 0o600); err != nil { // the host's next idea
				t.Fatal(err)
			}
			if out, err := cryptsetup(t, "the key", "open", "--test-passphrase", "--header="+header, disk); err != nil {
				t.Errorf("cryptsetup does not open the header: %v: %s", err, out)
			}
			if _, err := cryptsetup(t, "another key", "open", "--test-passphrase", "--header="+header, disk); err == nil {
				t.Error("another key opens the header")
			}
		})
	}
}

// Two other headers of the real program. (It needs the device mapper to make one with the null cipher.)
func TestCryptsetupsOtherHeadersAreRefused(t *testing.T) {
	fast := []string{"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"}
	disk := formatted(t, "the key", fast...)
	another := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(another, []byte("another key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := cryptsetup(t, "the key", append(append([]string{"luksAddKey"}, fast...), disk, another)...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err := Read(open(t, disk), Options{PermitUnauthenticated: true})
	refusaltest.Want(t, "a second key", err, ReasonKeyslot)

	disk = formatted(t, "the key", append(fast, "--sector-size=512")...)
	if out, err := cryptsetup(t, "the key", "convert", "--type=luks1", disk); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err = Read(open(t, disk), Options{PermitUnauthenticated: true})
	refusaltest.Want(t, "LUKS1", err, ReasonVersion)
}
