// Package tsm asks for attestation reports through configfs-tsm, the kernel's interface for the
// reports of any TEE (Linux 6.7 and later, Documentation/ABI/testing/configfs-tsm-report).
//
// Each request has an entry of its own or, where somebody prepared one, that: the files of any entry
// are root's, whoever made it, so a process that is not root needs one that root made and whose files
// it was given (see [Prepared]). A report was made for what this request wrote, which the
// package ensures by counting its writes against the kernel's generation number before and after:
// a request that another process overtook is made again. One request is in flight at a time, and
// each ends at its caller's deadline (package device). The package trusts the kernel to be the
// guest's own. It refuses other providers than the one asked for; what a report says is for its
// callers, guest/snp and guest/tdx.
package tsm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
)

// DefaultRoot is the directory of configfs-tsm.
const DefaultRoot = "/sys/kernel/config/tsm/report"

// Prepared is the name of the entry that is used if it is there. The agent's unit makes it afresh as
// root at each start, so that no option comes with it that another process wrote, and gives the agent
// its inblob and privlevel. Nothing here removes it.
const Prepared = "anchorhold"

// Attempts is how often a request is made that another process's request overtakes.
const Attempts = 3

// MaxPrivilege is the kernel's limit on privilege levels (TSM_REPORT_PRIVLEVEL_MAX).
const MaxPrivilege = 3

// Privilege is the privilege level that a report is made for; under SEV-SNP, a VMPL. The zero
// value leaves it to the kernel, and takes the kernel's floor if the firmware refuses the
// default: a guest under an SVSM may not ask for level 0.
type Privilege struct {
	level uint8
	set   bool
}

// Level is a privilege level to ask for, 0 to [MaxPrivilege]. [Open] refuses others.
func Level(n uint8) Privilege { return Privilege{level: n, set: true} }

// Chosen returns the level, and whether there is one.
func (p Privilege) Chosen() (level uint8, set bool) { return p.level, p.set }

// Options say whose reports are wanted, and where they come from.
type Options struct {
	// Provider is the kernel's name of the TEE: "sev_guest" or "tdx_guest".
	Provider string
	// TEE is its name for people.
	TEE string
	// Root is the directory of configfs-tsm; DefaultRoot if empty.
	Root string
	// Files replaces the operating system's.
	Files Files
	// Privilege is the level that reports are asked for.
	Privilege Privilege
}

// Device makes reports. It is safe for concurrent use.
type Device struct {
	provider, tee, root string
	files               Files
	prepared            bool // there is an entry to use
	queue               *device.Queue
	privilege           Privilege // whoever has the turn may set it, to the floor
}

// Open finds out whether the provider is there: from the prepared entry, or else by creating and
// removing one. If configfs-tsm itself is not there, the error is [fs.ErrNotExist], too.
func Open(o Options) (*Device, error) {
	d := &Device{provider: o.Provider, tee: o.TEE, root: o.Root, files: o.Files, queue: device.NewQueue(), privilege: o.Privilege}
	if d.root == "" {
		d.root = DefaultRoot
	}
	if d.files == nil {
		d.files = System{}
	}
	if o.Privilege.level > MaxPrivilege {
		return nil, refusal.New(device.ReasonFailed, "privilege level %d: the highest number is %d", o.Privilege.level, MaxPrivilege)
	}
	name, err := d.named()
	if err != nil {
		return nil, err
	}
	if got := strings.TrimSpace(string(name)); got != d.provider {
		return nil, refusal.New(device.ReasonAbsent, "this guest's TEE is %q; this collector supports only %s", got, d.provider)
	}
	return d, nil
}

// named reads the provider's name, and finds out whether there is a prepared entry.
func (d *Device) named() ([]byte, error) {
	const limit = 256
	name, err := d.files.Read(d.root+"/"+Prepared+"/provider", limit)
	if err == nil {
		d.prepared = true
		return name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, d.explain(err)
	}
	dir := d.root + "/anchorhold-" + rand.Text() // not another process's probe
	if err := d.files.Mkdir(dir); err != nil {
		return nil, d.explain(err)
	}
	name, err = d.files.Read(dir+"/provider", limit)
	if err = errors.Join(err, d.files.Remove(dir)); err != nil {
		return nil, refusal.New(device.ReasonFailed, "probe %s: %w", d.root, err)
	}
	return name, nil
}

// explain says what a failed first step means.
func (d *Device) explain(err error) error {
	module := strings.ReplaceAll(d.provider, "_", "-")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refusal.New(device.ReasonAbsent, "%s is absent: this is not a guest of %s, or its kernel does not offer reports yet: load the modules tsm and %s and mount configfs (Linux 6.7 or later): %w", d.root, d.tee, module, fs.ErrNotExist)
	case errors.Is(err, unix.ENXIO):
		return refusal.New(device.ReasonAbsent, "%s exists but no TEE provides reports: this is not a guest of %s, or %s is not loaded", d.root, d.tee, module)
	case errors.Is(err, fs.ErrPermission):
		return refusal.New(device.ReasonAbsent, "this user may not create entries in %s: only root can use those, and the agent's unit prepares %s for it", d.root, Prepared)
	}
	return refusal.New(device.ReasonFailed, "probe %s: %w", d.root, err)
}

// Request is what a report is asked for.
type Request struct {
	// Data is the REPORT_DATA, all 64 bytes of it.
	Data [64]byte
	// MaxReport is the largest report that is accepted, in bytes.
	MaxReport int
	// MaxAux is the largest supplement that is accepted, in bytes; it is not read if zero.
	MaxAux int
}

// Report is what the kernel answered.
type Report struct {
	// Data is the report or quote.
	Data []byte
	// Aux is the supplement: the host's certificates under SEV-SNP. It is often empty.
	Aux []byte
	// Privilege is the level that was written, if one was.
	Privilege Privilege
}

// Report makes one. It waits for its turn until the context ends, and then for the firmware at
// most [device.Patience]. A refusal has one of package device's reasons.
func (d *Device) Report(ctx context.Context, q Request) (Report, error) {
	return device.Call(ctx, d.queue, func(ctx context.Context) (Report, error) {
		var err error
		for range Attempts {
			var r Report
			r, err = d.attempt(ctx, q)
			if err == nil || !errors.Is(err, errOvertaken) {
				return r, err
			}
		}
		return Report{}, refusal.New(device.ReasonFailed, "%w, %d times", err, Attempts)
	})
}

var errOvertaken = errors.New("another request overtook this one")

// attempt makes one report in an entry of its own, or the prepared one.
func (d *Device) attempt(ctx context.Context, q Request) (r Report, err error) {
	e, err := d.enter(q.Data)
	if err != nil {
		return Report{}, err
	}
	defer func() {
		if d.prepared {
			return
		}
		if removal := d.files.Remove(e.dir); removal != nil && err == nil {
			r, err = Report{}, refusal.New(device.ReasonFailed, "remove %s: %w", e.dir, removal)
		}
	}()
	if err := e.write(ctx, "inblob", q.Data[:]); err != nil {
		return Report{}, err
	}
	if r, err = e.report(ctx, q.MaxReport); err != nil {
		return Report{}, err
	}
	if q.MaxAux > 0 {
		if r.Aux, err = e.read(ctx, "auxblob", q.MaxAux); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Report{}, err
		}
	}
	after, err := e.number("generation")
	if err != nil {
		return Report{}, err
	}
	if after != e.generation {
		return Report{}, errOvertaken
	}
	return r, nil
}

// entry is a directory of configfs-tsm while a report is made in it.
type entry struct {
	*Device
	dir        string
	generation uint64 // that the kernel has if nobody else wrote to the entry
}

// enter makes the entry, unless one is prepared. One of the request's own that is there was left
// behind by a process that died; the options that it wrote must not come with it.
func (d *Device) enter(data [64]byte) (_ *entry, err error) {
	if d.prepared {
		e := &entry{Device: d, dir: d.root + "/" + Prepared}
		e.generation, err = e.number("generation")
		return e, err
	}
	e := &entry{Device: d, dir: fmt.Sprintf("%s/anchorhold-%x", d.root, data[:8])}
	err = d.files.Mkdir(e.dir)
	if errors.Is(err, fs.ErrExist) {
		if err = d.files.Remove(e.dir); err == nil {
			err = d.files.Mkdir(e.dir)
		}
	}
	if err != nil {
		return nil, d.explain(err)
	}
	if e.generation, err = e.number("generation"); err != nil {
		return nil, errors.Join(err, d.files.Remove(e.dir))
	}
	return e, nil
}

// report reads the report, for the level that was chosen or, if the firmware refuses the
// default, for the kernel's floor. The floor is remembered: a refused request is one more that
// the firmware has to answer.
func (e *entry) report(ctx context.Context, limit int) (Report, error) {
	if e.privilege.set {
		if err := e.writePrivilege(ctx, e.privilege.level); err != nil {
			return Report{}, err
		}
		data, err := e.read(ctx, "outblob", limit)
		return Report{Data: data, Privilege: e.privilege}, err
	}
	data, err := e.read(ctx, "outblob", limit)
	if !errors.Is(err, unix.EINVAL) {
		return Report{Data: data}, err
	}
	floor, noFloor := e.number("privlevel_floor")
	if noFloor != nil || floor == 0 {
		return Report{}, err // the level is not the reason
	}
	if floor > MaxPrivilege {
		return Report{}, refusal.New(device.ReasonFailed, "the kernel's lowest privilege level is %d, the highest known is %d", floor, MaxPrivilege)
	}
	if err := e.writePrivilege(ctx, uint8(floor)); err != nil {
		return Report{}, err
	}
	if data, err = e.read(ctx, "outblob", limit); err != nil {
		return Report{}, err
	}
	e.privilege = Level(uint8(floor))
	return Report{Data: data, Privilege: e.privilege}, nil
}

func (e *entry) writePrivilege(ctx context.Context, level uint8) error {
	return e.write(ctx, "privlevel", strconv.AppendUint(nil, uint64(level), 10))
}

// write writes an attribute. Each write that the kernel takes counts in its generation.
func (e *entry) write(ctx context.Context, file string, data []byte) error {
	if err := device.Patiently(ctx, func() error { return e.files.Write(e.dir+"/"+file, data) }); errors.Is(err, fs.ErrPermission) {
		return refusal.New(device.ReasonFailed, "this user may not write %s of %s: the agent's unit prepares an entry, %s, whose files it may: %w", file, e.dir, Prepared, err)
	} else if err != nil {
		return refusal.New(device.ReasonFailed, "write %s: %w", file, err)
	}
	e.generation++
	return nil
}

// read reads an attribute of at most limit bytes.
func (e *entry) read(ctx context.Context, file string, limit int) (data []byte, err error) {
	err = device.Patiently(ctx, func() (err error) { data, err = e.files.Read(e.dir+"/"+file, int64(limit)+1); return err })
	if err != nil {
		return nil, refusal.New(device.ReasonFailed, "read %s: %w", file, err)
	}
	if len(data) > limit {
		return nil, refusal.New(device.ReasonFailed, "%s has more than %d bytes", file, limit)
	}
	return data, nil
}

func (e *entry) number(file string) (uint64, error) {
	text, err := e.files.Read(e.dir+"/"+file, 32)
	if err != nil {
		return 0, refusal.New(device.ReasonFailed, "read the %s: %w", file, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, refusal.New(device.ReasonFailed, "malformed %s %q", file, text)
	}
	return n, nil
}
