package volume

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/luks"
	"github.com/anchorhold/anchorhold/guest/luks/lukstest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// machine is a system whose devices are files and whose file systems are directories: what is on a device
// belongs to a header's digest of the key, so that it opens with that key alone.
type machine struct {
	t       *testing.T
	dir     string
	did     []string
	failing string            // the step that fails
	open    map[string]string // mapped name to device
	mounts  map[string]string // target to mapped name

	unauthenticated bool  // headers may say so
	missing         error // a program is
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, dir: t.TempDir(), open: map[string]string{}, mounts: map[string]string{}}
}

var errFails = errors.New("it fails")

func (m *machine) step(name string) error {
	m.did = append(m.did, name)
	if m.failing == name {
		return errFails
	}
	return nil
}

// root is what a device has as its file system; keyOf what opens it.
func (m *machine) root(device string) string  { return device + ".root" }
func (m *machine) keyOf(device string) string { return device + ".key" }

func (m *machine) Ready(bool) error { return m.missing }

func (m *machine) Format(_ context.Context, header, device string, key []byte) error {
	if err := m.step("format"); err != nil {
		return err
	}
	m.write(m.keyOf(device), key)
	v := lukstest.Valid()
	v.Bytes = 1 << 20
	m.write(header, v.Image())
	return os.RemoveAll(m.root(device))
}

func (m *machine) Unlock(_ context.Context, header, device, name string, key []byte) error {
	if err := m.step("unlock"); err != nil {
		return err
	}
	f, err := os.Open(header)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := luks.Check(f, m.unauthenticated); err != nil {
		m.t.Errorf("cryptsetup was given a header that was not validated: %v", err)
	}
	want, err := os.ReadFile(m.keyOf(device))
	if err != nil || !bytes.Equal(want, key) {
		return errors.New("no key available with this passphrase")
	}
	m.open[name] = device
	return nil
}

func (m *machine) Lock(_ context.Context, name string) error {
	if err := m.step("lock"); err != nil {
		return err
	}
	delete(m.open, name)
	return nil
}

func (m *machine) Unlocked(name string) bool { return m.open[name] != "" }

func (m *machine) MakeFilesystem(_ context.Context, name string) error {
	if err := m.step("mkfs"); err != nil {
		return err
	}
	return os.Mkdir(m.root(m.open[name]), 0o755)
}

// Mount copies the file system to its place, and Unmount back.
func (m *machine) Mount(name, target string, aside bool) error {
	step := "mount"
	if aside {
		step = "mount aside"
	}
	if err := m.step(step); err != nil {
		return err
	}
	m.mounts[target] = name
	return os.CopyFS(target, os.DirFS(m.root(m.open[name])))
}

func (m *machine) Unmount(target string) error {
	device := m.open[m.mounts[target]]
	if err := errors.Join(os.RemoveAll(m.root(device)), os.CopyFS(m.root(device), os.DirFS(target))); err != nil {
		return err
	}
	if err := m.step("unmount"); err != nil {
		return err
	}
	delete(m.mounts, target)
	entries, err := os.ReadDir(target)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(target, e.Name())))
	}
	return err
}

func (m *machine) write(path string, b []byte) {
	m.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// broker is an agent whose broker remembers one state. Its rules are those of keybroker/volumes, whose tests
// have them in full.
type broker struct {
	m       *machine
	key     string
	current generation.State
}

func (b *broker) Secret(context.Context, string, time.Duration) (*keybuf.Buffer, error) {
	if err := b.m.step("key"); err != nil {
		return nil, err
	}
	return keybuf.Take([]byte(b.key))
}

func (b *broker) Opened(_ context.Context, _ string, confirmed, unconfirmed, next generation.State) (generation.State, error) {
	step := "ask"
	if !next.Zero() {
		step = "confirm"
	}
	if err := b.m.step(step); err != nil {
		return generation.State{}, err
	}
	if confirmed != b.current && (unconfirmed.Zero() || unconfirmed != b.current) {
		return generation.State{}, refusal.New(generation.ReasonRolledBack, "rolled back")
	}
	if !next.Zero() {
		b.current = next
	}
	return b.current, nil
}

// guest is a guest with one volume.
type guest struct {
	*Opener
	m *machine
	b *broker
	v Volume
}

func newGuest(t *testing.T, key string) *guest {
	t.Helper()
	m := newMachine(t)
	g := &guest{m: m, b: &broker{m: m, key: "the key of the volume"}, v: Volume{Name: "var", Device: filepath.Join(m.dir, "disk"), Mount: filepath.Join(m.dir, "mnt"),
		Key: key, Agent: "/agent", Secret: "var", FormatIfEmpty: true, WaitSeconds: 1}}
	g.Opener = &Opener{System: m, Agent: func(string) Agent { return g.b }, Headers: filepath.Join(m.dir, "run"), HeaderGID: os.Getgid(), Logger: slog.New(slog.DiscardHandler)}
	m.write(g.v.Device, nil)
	if err := os.Truncate(g.v.Device, 64<<20); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guest) must(err error) {
	g.m.t.Helper()
	if err != nil {
		g.m.t.Fatal(err)
	}
}

// closed checks that nothing of an opening is left.
func (g *guest) closed(what string) {
	g.m.t.Helper()
	if len(g.m.open)+len(g.m.mounts) != 0 {
		g.m.t.Errorf("%s: left open %v, mounted %v", what, g.m.open, g.m.mounts)
	}
	if _, err := os.Stat(g.header(g.v)); !errors.Is(err, fs.ErrNotExist) {
		g.m.t.Errorf("%s: the header is left: %v", what, err)
	}
}

// cycle opens, writes a file and closes.
func (g *guest) cycle(mark string) {
	g.m.t.Helper()
	g.must(g.Open(g.m.t.Context(), g.v))
	if mark != "" {
		g.m.write(filepath.Join(g.v.Mount, mark), []byte(mark))
	}
	g.must(g.Close(g.m.t.Context(), g.v))
	g.closed("after a close")
}

// copyDisk and putBack are what a host does.
func (g *guest) copyDisk() (putBack func()) {
	g.m.t.Helper()
	raw, err := os.ReadFile(g.v.Device)
	g.must(err)
	kept := filepath.Join(g.m.t.TempDir(), "root")
	g.must(os.CopyFS(kept, os.DirFS(g.m.root(g.v.Device))))
	return func() {
		g.m.write(g.v.Device, raw)
		g.must(os.RemoveAll(g.m.root(g.v.Device)))
		g.must(os.CopyFS(g.m.root(g.v.Device), os.DirFS(kept)))
	}
}

func TestFirstUseFormatsAndLaterOnesDoNot(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.must(g.Open(t.Context(), g.v))
	want := []string{"key", "ask", "format", "unlock", "mkfs", "mount aside", "ask", "confirm", "unmount", "mount"}
	if !slices.Equal(g.m.did, want) {
		t.Errorf("did %q, want %q", g.m.did, want)
	}
	info, err := os.Stat(g.header(g.v))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the header is %v, %v", info, err)
	}
	err = g.Open(t.Context(), g.v)
	refusaltest.Want(t, "a volume that is open", err, ReasonOpen)
	g.m.write(filepath.Join(g.v.Mount, "data"), []byte("data"))
	g.must(g.Close(t.Context(), g.v))
	g.must(g.Close(t.Context(), g.v)) // once more does nothing
	g.closed("closed")
	g.m.did = nil
	g.must(g.Open(t.Context(), g.v))
	want = []string{"key", "unlock", "mount aside", "ask", "confirm", "unmount", "mount"}
	if !slices.Equal(g.m.did, want) {
		t.Errorf("the second time did %q, want %q", g.m.did, want)
	}
	if b, err := os.ReadFile(filepath.Join(g.v.Mount, "data")); err != nil || string(b) != "data" || g.b.current.Generation != 2 {
		t.Errorf("%q, %v, generation %d", b, err, g.b.current.Generation)
	}
}

// A boot may come to the volume before its disk; and a disk may never come.
func TestADeviceIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, KeyBroker)
		g.must(os.Rename(g.v.Device, g.v.Device+".late"))
		began := time.Now()
		err := g.Open(t.Context(), g.v)
		refusaltest.Want(t, "no device", err, ReasonNoDevice)
		if took := time.Since(began); took != deviceWait || len(g.m.did) != 0 {
			t.Errorf("gave up after %s, want %s; did %q", took, deviceWait, g.m.did)
		}
		opened := make(chan error, 1)
		go func() { opened <- g.Open(t.Context(), g.v) }()
		synctest.Wait()
		g.must(os.Rename(g.v.Device+".late", g.v.Device))
		g.must(<-opened)
	})
}

func TestAnOlderDiskIsRefusedAndClosed(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.cycle("first")
	putBack := g.copyDisk()
	g.cycle("second")
	now := g.copyDisk()
	putBack()
	for range 3 {
		err := g.Open(t.Context(), g.v)
		refusaltest.Want(t, "an older disk", err, generation.ReasonRolledBack)
		if !strings.Contains(err.Error(), "anchorhold volume reset volumes/var") {
			t.Errorf("the refusal does not say what to do: %v", err)
		}
		g.closed("an older disk")
		if _, err := os.Stat(filepath.Join(g.v.Mount, "first")); err == nil {
			t.Error("an older disk was mounted")
		}
	}
	now()
	g.cycle("")
	g.must(os.Truncate(g.v.Device, 0))
	g.must(os.Truncate(g.v.Device, 64<<20))
	g.m.did = nil
	err := g.Open(t.Context(), g.v)
	refusaltest.Want(t, "an empty disk", err, generation.ReasonRolledBack)
	g.closed("an empty disk")
	if slices.Contains(g.m.did, "format") {
		t.Error("it was formatted before the broker was asked")
	}
}

func TestNothingIsFormattedOverData(t *testing.T) {
	for name, at := range map[string]int64{"a partition table": 510, "the end of the first MiB": 1<<20 - 1} {
		for _, key := range []string{KeyBroker, KeyBoot} {
			g := newGuest(t, key)
			f, err := os.OpenFile(g.v.Device, os.O_RDWR, 0)
			g.must(err)
			_, err = f.WriteAt([]byte{0x55}, at)
			g.must(errors.Join(err, f.Close()))
			before, err := os.ReadFile(g.v.Device)
			g.must(err)
			err = g.Open(t.Context(), g.v)
			want := luks.ReasonFormat
			if key == KeyBoot {
				want = ReasonNotEmpty
			}
			refusaltest.Want(t, name+", "+key, err, want)
			after, err := os.ReadFile(g.v.Device)
			g.must(err)
			if !bytes.Equal(before, after) || slices.Contains(g.m.did, "format") {
				t.Errorf("%s, %s: the device was changed: %q", name, key, g.m.did)
			}
			g.closed(name)
		}
	}
	g := newGuest(t, KeyBroker)
	g.v.FormatIfEmpty = false
	err := g.Open(t.Context(), g.v)
	refusaltest.Want(t, "empty, not to be formatted", err, ReasonEmpty)
	g = newGuest(t, KeyBroker)
	g.m.missing = errFails
	if err := g.Open(t.Context(), g.v); !errors.Is(err, errFails) || len(g.m.did) != 0 {
		t.Errorf("without a program: %v, did %q", err, g.m.did)
	}
	g = newGuest(t, KeyBroker)
	g.must(os.Truncate(g.v.Device, minimumBytes-1))
	err = g.Open(t.Context(), g.v)
	refusaltest.Want(t, "a small device", err, luks.ReasonSize)
	if len(g.m.did) != 0 {
		t.Errorf("did %q", g.m.did)
	}
}

func TestHostileHeadersAreNotOpened(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.cycle("")
	v := lukstest.Valid().With(`"size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64"`, `"size":"dynamic","iv_tweak":"0","encryption":"cipher_null-ecb"`)
	f, err := os.OpenFile(g.v.Device, os.O_RDWR, 0)
	g.must(err)
	_, err = f.WriteAt(v.Image()[:32768], 0)
	g.must(errors.Join(err, f.Close()))
	g.m.did = nil
	err = g.Open(t.Context(), g.v)
	refusaltest.Want(t, "the null cipher", err, luks.ReasonCipher)
	if slices.Contains(g.m.did, "unlock") {
		t.Error("the key was used")
	}
	g.closed("the null cipher")
}

// Whatever fails, nothing is left open; and what failed once does not keep the volume from opening later, with
// what was on it.
func TestEachStepMayFail(t *testing.T) {
	steps := []string{"key", "ask", "format", "unlock", "mkfs", "mount aside", "confirm", "unmount", "mount"}
	for _, step := range steps {
		g := newGuest(t, KeyBroker)
		g.m.failing = step
		if err := g.Open(t.Context(), g.v); !errors.Is(err, errFails) {
			t.Errorf("first use, %s: %v", step, err)
		}
		g.m.failing = ""
		if step == "unmount" {
			g.m.open, g.m.mounts = map[string]string{}, map[string]string{} // it stays mounted aside until a reboot
			g.must(os.RemoveAll(g.Headers))
		}
		g.closed("first use, " + step)
		g.cycle("data")
		g.m.failing = step
		if err := g.Open(t.Context(), g.v); (err == nil) != (step == "format" || step == "mkfs") {
			t.Errorf("second use, %s: %v", step, err)
		}
		g.m.failing = ""
		if step == "unmount" || step == "format" || step == "mkfs" {
			continue
		}
		g.closed("second use, " + step)
		g.must(g.Open(t.Context(), g.v))
		if _, err := os.Stat(filepath.Join(g.v.Mount, "data")); err != nil {
			t.Errorf("after %s failed: %v", step, err)
		}
	}
}

// A crash between the two writes, the volume's and the broker's, in either order.
func TestACrashBetweenTheTwoWritesHeals(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.cycle("data")
	for range 3 {
		g.m.failing = "confirm" // the volume has written, the broker has not heard
		if err := g.Open(t.Context(), g.v); !errors.Is(err, errFails) {
			t.Fatal(err)
		}
		g.m.failing = ""
		g.must(g.Open(t.Context(), g.v))
		g.must(g.Close(t.Context(), g.v))
	}
	g.Opener.Agent = func(string) Agent { return losing{g.b} } // the broker has confirmed, the volume has not heard
	if err := g.Open(t.Context(), g.v); !errors.Is(err, errFails) {
		t.Fatal(err)
	}
	g.Opener.Agent = func(string) Agent { return g.b }
	g.closed("a lost answer")
	g.must(g.Open(t.Context(), g.v))
	if _, err := os.Stat(filepath.Join(g.v.Mount, "data")); err != nil {
		t.Error(err)
	}
}

// losing loses the answer to a confirmation.
type losing struct{ *broker }

func (l losing) Opened(ctx context.Context, v string, confirmed, unconfirmed, next generation.State) (generation.State, error) {
	s, err := l.broker.Opened(ctx, v, confirmed, unconfirmed, next)
	if !next.Zero() {
		return generation.State{}, errFails
	}
	return s, err
}

func TestAVolumeForOneBoot(t *testing.T) {
	g := newGuest(t, KeyBoot)
	g.Opener.Agent = nil // nobody is asked
	g.must(g.Open(t.Context(), g.v))
	want := []string{"format", "unlock", "mkfs", "mount"}
	if !slices.Equal(g.m.did, want) {
		t.Errorf("did %q, want %q", g.m.did, want)
	}
	g.m.write(filepath.Join(g.v.Mount, "data"), []byte("data"))
	first, err := os.ReadFile(g.m.keyOf(g.v.Device))
	g.must(err)
	g.must(g.Close(t.Context(), g.v))
	g.closed("closed")
	g.must(g.Open(t.Context(), g.v))
	second, err := os.ReadFile(g.m.keyOf(g.v.Device))
	g.must(err)
	if bytes.Equal(first, second) || len(first) != bootKeyBytes {
		t.Error("two boots have one key")
	}
	if _, err := os.Stat(filepath.Join(g.v.Mount, "data")); err == nil {
		t.Error("what one boot wrote is there in the next")
	}
}

// For systemd-cryptsetup the header is validated and written, and nothing else is done.
func TestAVolumeOfCrypttab(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.cycle("")
	g.v = Volume{Name: "var", Device: g.v.Device, Key: KeyCrypttab}
	g.Crypttab = filepath.Join(t.TempDir(), "crypttab")
	table := func(text string) { g.must(os.WriteFile(g.Crypttab, []byte(text), 0o600)) }
	option := "header=" + g.header(g.v)
	const entry = "var /dev/vdb /run/socket "
	refusaltest.Want(t, "no crypttab", g.Open(t.Context(), g.v), ReasonCrypttab)
	for _, text := range []string{"", "#" + entry + option, "other" + entry[3:] + option, entry, entry + "luks", entry + option + "x", entry + "luks,header=/dev/vdc," + option, entry + "plain," + option, entry + "tcrypt," + option,
		entry + "tcrypt-hidden," + option, entry + `luks\,` + option, entry + option + " more", entry + option + "\n" + entry + "luks"} {
		table(text)
		refusaltest.Want(t, text, g.Open(t.Context(), g.v), ReasonCrypttab)
		g.closed(text)
	}
	table("# name device key options\n\n" + entry + "luks," + option + ",_netdev\n")
	g.m.did = nil
	g.must(g.Open(t.Context(), g.v))
	f, err := os.Open(g.header(g.v))
	g.must(err)
	defer f.Close()
	refusaltest.Want(t, "the header", luks.Check(f, false), "")
	g.must(g.Close(t.Context(), g.v))
	g.closed("closed")
	if len(g.m.did) != 0 {
		t.Errorf("did %q", g.m.did)
	}
	g.m.write(g.v.Device, make([]byte, 4<<20))
	err = g.Open(t.Context(), g.v)
	refusaltest.Want(t, "an empty device", err, luks.ReasonFormat)
	g.closed("an empty device")
}

func TestUnauthenticatedVolumesNeedPermission(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.cycle("")
	plain := lukstest.Valid().With(",\n \"integrity\":{\"type\":\"hmac(sha256)\",\"journal_encryption\":\"none\",\"journal_integrity\":\"none\"}", "", `"key_size":96`, `"key_size":64`, `"size":"385024"`, `"size":"258048"`)
	f, err := os.OpenFile(g.v.Device, os.O_RDWR, 0)
	g.must(err)
	_, err = f.WriteAt(plain.Image()[:1<<20], 0)
	g.must(errors.Join(err, f.Close()))
	err = g.Open(t.Context(), g.v)
	refusaltest.Want(t, "not permitted", err, luks.ReasonUnauthenticated)
	g.closed("not permitted")
	g.v.PermitUnauthenticated = true
	var log strings.Builder
	g.Logger = slog.New(slog.NewTextHandler(&log, nil))
	g.m.unauthenticated = true
	g.must(g.Open(t.Context(), g.v))
	if !strings.Contains(log.String(), "THE VOLUME IS NOT AUTHENTICATED") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestAnotherKeyDoesNotOpen(t *testing.T) {
	g := newGuest(t, KeyBroker)
	g.cycle("")
	g.b.key = "another key"
	err := g.Open(t.Context(), g.v)
	refusaltest.Want(t, "another key", err, ReasonNotUnlocked)
	g.closed("another key")
}

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volumes.yaml")
	read := func(text string) (Config, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadConfig(path)
	}
	const var1 = "{name: var, device: /dev/disk/by-partlabel/var, mount: /var/lib/anchorhold, key: broker}"
	c, err := read("volumes:\n  - " + var1 + "\n  - {name: tmp, device: /dev/vdc, mount: /var/tmp, key: boot, format_if_empty: true}\n  - {name: a, device: /dev/vdd, key: crypttab}\n  - {name: b, device: /dev/vde, key: crypttab}\n")
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Find("var")
	if err != nil || v.Agent != defaultAgent || v.Secret != "var" || v.WaitSeconds != defaultWait || v.FormatIfEmpty {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := c.Find("other"); err == nil {
		t.Error("a volume that is not there was found")
	}
	for name, edit := range map[string][2]string{
		"name":            {"name: var", "name: ../var"},
		"capital":         {"name: var", "name: Var"},
		"path as name":    {"name: var", "name: a/b"},
		"long name":       {"name: var", "name: " + strings.Repeat("a", maxName+1)},
		"no name":         {"name: var, ", ""},
		"relative device": {"/dev/disk/by-partlabel/var", "var"},
		"file as device":  {"/dev/disk/by-partlabel/var", "/root/disk"},
		"dots in device":  {"/dev/disk/by-partlabel/var", "/dev/../root/disk"},
		"root":            {"mount: /var/lib/anchorhold", "mount: /"},
		"relative mount":  {"mount: /var/lib/anchorhold", "mount: var"},
		"long mount":      {"mount: /var/lib/anchorhold", "mount: /" + strings.Repeat("a", maxPath)},
		"key":             {"key: broker", "key: disk"},
		"no key":          {", key: broker", ""},
		"boot, no format": {"key: broker", "key: boot"},
		"boot, agent":     {"key: broker", "key: boot, format_if_empty: true, agent: /run/a"},
		"boot, secret":    {"key: broker", "key: boot, format_if_empty: true, secret: a"},
		"agent":           {"key: broker", "key: broker, agent: run/a"},
		"secret":          {"key: broker", "key: broker, secret: a/b"},
		"wait":            {"key: broker", "key: broker, wait_seconds: 291"},
		"negative wait":   {"key: broker", "key: broker, wait_seconds: -1"},
		"unknown field":   {"key: broker", "key: broker, x: 1"},
		"crypttab, mount": {"key: broker", "key: crypttab"},
		"boot, unsafe":    {"key: broker", "key: boot, format_if_empty: true, permit_unauthenticated: true"},
	} {
		if _, err := read("volumes:\n  - " + strings.Replace(var1, edit[0], edit[1], 1) + "\n"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, text := range map[string]string{"none": "volumes: []", "empty": "", "twice": "volumes:\n  - " + var1 + "\n  - " + var1,
		"many": "volumes:" + strings.Repeat("\n  - "+var1, maxVolumes+1)} {
		if _, err := read(text + "\n"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
