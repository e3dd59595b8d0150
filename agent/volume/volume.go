// Package volume opens the encrypted volumes of a guest, and closes them: "anchorhold-agent volume", which the
// service manager runs as root (systemd/anchorhold-volume@.service).
//
// It guarantees that a volume is mounted only if its header was validated and is the one that cryptsetup used
// (package luks), its sectors are authenticated, and the broker confirmed that it is in the state that was current
// (docs/protocol.md 17); and that no device is formatted whose first MiB is not zero. Whatever fails, the volume
// is closed again. A volume with a key for one boot is formatted at each boot, and has neither header on the disk
// nor generations. The package trusts the kernel, cryptsetup, mkfs.ext4 and the agent that has the key. It does
// not protect against a host that puts back, within one boot or after it, an earlier state of the same generation.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/luks"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// Reasons of this package.
const (
	// ReasonNoDevice: the device is not there.
	ReasonNoDevice refusal.Reason = "volume-device-missing"
	// ReasonEmpty: the device is empty, and may not be formatted.
	ReasonEmpty refusal.Reason = "volume-empty"
	// ReasonNotEmpty: a device for one boot has something in its first MiB.
	ReasonNotEmpty refusal.Reason = "volume-not-empty"
	// ReasonNotUnlocked: the key does not open the volume.
	ReasonNotUnlocked refusal.Reason = "volume-not-unlocked"
	// ReasonOpen: the volume is open already.
	ReasonOpen refusal.Reason = "volume-open"
	// ReasonGeneration: the file with the volume's generation is damaged.
	ReasonGeneration refusal.Reason = "volume-generation-damaged"
)

const (
	// emptyBytes is how much of a device must be zero to be empty. What is formatted keeps it so until the
	// volume is whole: its data begins behind it.
	emptyBytes = 1 << 20
	// dataOffset is where the data begins, behind the header.
	dataOffset = 2 << 20
	// minimumBytes is the smallest device that is formatted.
	minimumBytes = 16 << 20
	// deviceWait is how long a device may take to be there, and devicePause the time between two looks: in a boot,
	// a unit can be started before udev has named its disk.
	deviceWait  = 30 * time.Second
	devicePause = 200 * time.Millisecond
	// bootKeyBytes is the length of a key for one boot.
	bootKeyBytes = 32
)

// System is what the kernel and the programs of others do. Names are of volumes, devices below /dev/mapper.
type System interface {
	// Ready says which program is missing to open volumes, or to make them.
	Ready(makes bool) error
	// Format writes a LUKS2 header for the device into a file, and makes its integrity protection.
	Format(ctx context.Context, header, device string, key []byte) error
	// Unlock opens a device by the header in a file, as /dev/mapper/NAME; Lock closes it.
	Unlock(ctx context.Context, header, device, name string, key []byte) error
	Lock(ctx context.Context, name string) error
	// Unlocked says whether the name is open.
	Unlocked(name string) bool
	// MakeFilesystem makes an empty file system on an open volume.
	MakeFilesystem(ctx context.Context, name string) error
	// Mount mounts an open volume, aside where nobody executes anything of it; Unmount ends that.
	Mount(name, target string, aside bool) error
	Unmount(target string) error
}

// Agent has the key, and the broker's ear.
type Agent interface {
	// Secret returns a secret, once there is a lease.
	Secret(ctx context.Context, name string, wait time.Duration) (*keybuf.Buffer, error)
	// Opened tells the broker what a volume holds.
	Opened(ctx context.Context, volume string, confirmed, unconfirmed, next generation.State) (generation.State, error)
}

// Opener opens and closes volumes.
type Opener struct {
	System System
	// Agent reaches the agent on a socket.
	Agent func(socket string) Agent
	// Headers is the directory of validated headers, HeaderGID the group that may read them.
	Headers   string
	HeaderGID int
	// Crypttab is the file crypttab(5).
	Crypttab string
	Logger   *slog.Logger
}

// mapped is the name below /dev/mapper.
func mapped(v Volume) string { return "anchorhold-" + v.Name }

func (o *Opener) header(v Volume) string { return filepath.Join(o.Headers, v.Name+".header") }
func (o *Opener) aside(v Volume) string  { return filepath.Join(o.Headers, v.Name+".mount") }

// Open opens a volume and mounts it, or leaves everything as it was.
func (o *Opener) Open(ctx context.Context, v Volume) (err error) {
	if v.Key != KeyCrypttab {
		if err := o.System.Ready(v.FormatIfEmpty); err != nil {
			return err
		}
	}
	if o.System.Unlocked(mapped(v)) {
		return refusal.New(ReasonOpen, "/dev/mapper/%s exists already", mapped(v))
	}
	device, err := openDevice(ctx, v.Device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	x := &opening{Opener: o, v: v, device: device, size: size}
	if v.Key == KeyBroker {
		x.agent = o.Agent(v.Agent)
	}
	if v.Key == KeyCrypttab {
		if err := checkCrypttab(o.Crypttab, v.Name, o.header(v)); err != nil {
			return err
		}
		return errors.Join(os.MkdirAll(o.Headers, 0o755), x.validate())
	}
	if err := x.run(ctx); err != nil {
		return errors.Join(x.advise(err), x.undo(context.WithoutCancel(ctx)))
	}
	return nil
}

// openDevice opens a device once it is there.
func openDevice(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	for {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, refusal.New(ReasonNoDevice, "%s is not there: attach the disk", path)
		case <-time.After(devicePause):
		}
	}
}

// opening is one opening of a volume; each step fills what the next ones need.
type opening struct {
	*Opener
	v        Volume
	device   *os.File
	size     int64
	agent    Agent // nil for a key of one boot
	key      *keybuf.Buffer
	empty    bool
	unlocked bool
	mounted  bool // aside
}

// advise says what helps where nobody can log in to look around: the console is all that an operator sees.
func (x *opening) advise(err error) error {
	if reason, _ := refusal.ReasonOf(err); reason == generation.ReasonRolledBack {
		return fmt.Errorf("%w: attach the disk as it was last, or, if this one was put in its place on purpose, run anchorhold volume reset %s/%s at the broker; then start the guest again", err, generation.Class, x.v.Name)
	}
	return err
}

func (x *opening) run(ctx context.Context) error {
	if err := os.MkdirAll(x.Headers, 0o755); err != nil {
		return err
	}
	defer func() { x.key.Wipe() }()
	for _, step := range []func(context.Context) error{x.look, x.getKey, x.prepare, x.unlock, x.confirm} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(x.v.Mount, 0o755); err != nil {
		return err
	}
	return x.System.Mount(mapped(x.v), x.v.Mount, false)
}

// look decides what the device is, before a key is asked for.
func (x *opening) look(context.Context) (err error) {
	if x.size < minimumBytes {
		return refusal.New(luks.ReasonSize, "%s has %d bytes, want at least %d", x.v.Device, x.size, minimumBytes)
	}
	if x.empty, err = luks.Zero(x.device, emptyBytes); err != nil {
		return err
	}
	switch {
	case x.empty && !x.v.FormatIfEmpty:
		return refusal.New(ReasonEmpty, "%s is empty; format_if_empty has it formatted at the first use", x.v.Device)
	case !x.empty && x.agent == nil:
		return refusal.New(ReasonNotEmpty, "the first MiB of %s is not zero: it may hold data, and a volume with a key for one boot would overwrite it", x.v.Device)
	}
	return nil
}

func (x *opening) getKey(ctx context.Context) (err error) {
	if x.agent == nil {
		x.key, err = keybuf.Random(bootKeyBytes)
		return err
	}
	x.key, err = x.agent.Secret(ctx, x.v.Secret, time.Duration(x.v.WaitSeconds)*time.Second)
	return err
}

// prepare writes the validated header: of the device, or of a volume that is made.
func (x *opening) prepare(ctx context.Context) error {
	if x.empty && x.agent != nil {
		// A host may show an empty disk in the place of a full one. The broker knows better, and is asked
		// before anything is written.
		if _, err := x.agent.Opened(ctx, x.v.Name, generation.State{}, generation.State{}, generation.State{}); err != nil {
			return err
		}
	}
	if x.empty {
		x.Logger.Info("formatting an empty device", "volume", x.v.Name, "device", x.v.Device, "bytes", x.size, "key", x.v.Key)
		return x.format(ctx)
	}
	return x.validate()
}

// validate keeps the device's header if it is valid.
func (x *opening) validate() error {
	h, err := luks.Read(x.device, luks.Options{DeviceBytes: x.size, PermitUnauthenticated: x.v.PermitUnauthenticated})
	if err != nil {
		return err
	}
	if !h.Authenticated() {
		x.Logger.Warn("THE VOLUME IS NOT AUTHENTICATED: the host can change its sectors unnoticed (permit_unauthenticated)", "volume", x.v.Name, "cipher", h.Cipher())
	}
	return x.keepHeader(h)
}

// keepHeader writes a header where the host cannot reach it.
func (x *opening) keepHeader(h *luks.Header) error {
	raw, err := h.Detached()
	if err != nil {
		return err
	}
	return writePrivate(x.header(x.v), raw, x.HeaderGID)
}

// format makes an empty volume. The header is in a file until everything else is on the device, whose beginning
// stays empty so long: after a crash the device is empty still, and is formatted anew.
func (x *opening) format(ctx context.Context) error {
	made := x.header(x.v) + ".new"
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	defer os.Remove(made)
	if err := x.key.Use(func(key []byte) error { return x.System.Format(ctx, made, x.v.Device, key) }); err != nil {
		return err
	}
	f, err := os.Open(made)
	if err != nil {
		return err
	}
	h, err := luks.Read(f, luks.Options{})
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("the header that cryptsetup made: %w", err)
	}
	if err := x.keepHeader(h); err != nil {
		return err
	}
	if err := x.open(ctx); err != nil {
		return err
	}
	if err := x.System.MakeFilesystem(ctx, mapped(x.v)); err != nil {
		return err
	}
	if x.agent == nil {
		return nil // its header is never on the device
	}
	raw, err := h.Detached()
	if err != nil {
		return err
	}
	if _, err := x.device.WriteAt(raw, 0); err != nil {
		return err
	}
	return x.device.Sync()
}

// open has cryptsetup open the device by the validated header.
func (x *opening) open(ctx context.Context) error {
	err := x.key.Use(func(key []byte) error {
		return x.System.Unlock(ctx, x.header(x.v), x.v.Device, mapped(x.v), key)
	})
	if err != nil {
		return refusal.New(ReasonNotUnlocked, "%s: %w", x.v.Name, err)
	}
	x.unlocked = true
	return nil
}

func (x *opening) unlock(ctx context.Context) error {
	if x.unlocked {
		return nil // it was formatted
	}
	return x.open(ctx)
}

// confirm mounts the volume where nobody looks, and has the broker confirm its next generation.
func (x *opening) confirm(ctx context.Context) error {
	if x.agent == nil {
		return nil
	}
	aside := x.aside(x.v)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	if err := x.System.Mount(mapped(x.v), aside, true); err != nil {
		return err
	}
	x.mounted = true
	if err := x.advance(ctx, aside); err != nil {
		return err
	}
	if err := x.System.Unmount(aside); err != nil {
		return err
	}
	x.mounted = false
	return os.Remove(aside)
}

// advance follows docs/protocol.md 17, steps 2 to 5.
func (x *opening) advance(ctx context.Context, root string) error {
	holds, err := readStates(root)
	if err != nil {
		return err
	}
	current, err := x.agent.Opened(ctx, x.v.Name, holds.Confirmed, holds.Unconfirmed, generation.State{})
	if err != nil {
		return err
	}
	next, err := generation.After(current, holds.Confirmed, holds.Unconfirmed)
	if err != nil {
		return err
	}
	if err := writeStates(root, states{Confirmed: current, Unconfirmed: next}); err != nil {
		return err
	}
	if _, err := x.agent.Opened(ctx, x.v.Name, current, generation.State{}, next); err != nil {
		return err
	}
	x.Logger.Info("volume confirmed", "volume", x.v.Name, "generation", next.Generation)
	return writeStates(root, states{Confirmed: next})
}

// undo closes what was opened.
func (x *opening) undo(ctx context.Context) error {
	var errs []error
	if x.mounted {
		errs = append(errs, x.System.Unmount(x.aside(x.v)))
	}
	if x.unlocked {
		errs = append(errs, x.System.Lock(ctx, mapped(x.v)))
	}
	if err := os.Remove(x.header(x.v)); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Close unmounts a volume and closes it. One that is not open is closed.
func (o *Opener) Close(ctx context.Context, v Volume) error {
	if v.Key != KeyCrypttab && o.System.Unlocked(mapped(v)) {
		if err := o.System.Unmount(v.Mount); err != nil {
			return err
		}
		if err := o.System.Lock(ctx, mapped(v)); err != nil {
			return err
		}
	}
	if err := os.Remove(o.header(v)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
