// Package snp collects AMD SEV-SNP attestation reports through configfs-tsm, the kernel's interface
// for the reports of any TEE (Linux 6.7 and later,
// Documentation/ABI/testing/configfs-tsm-report).
//
// A report was made for the requested REPORT_DATA, which the package ensures by reading the
// kernel's generation number before and after. Only one report is in flight at a time; other
// callers queue within their deadlines, and Collect returns at its deadline even if a call into
// the kernel never does. The [Collector] trusts the kernel to be the guest's own; nobody trusts
// the report itself before the broker has appraised it. It refuses providers other than sev_guest.
// The agent calls it.
package snp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"golang.org/x/sys/unix"
)

// Reasons of this package.
const (
	// ReasonNoTEE: this is not an SEV-SNP guest, or its kernel has no configfs-tsm.
	ReasonNoTEE refusal.Reason = "tee-absent"
	// ReasonDevice: the kernel or the firmware could not make a report.
	ReasonDevice refusal.Reason = "tee-failed"
	// ReasonUnresponsive: a call into the kernel has not returned, and no other is made before
	// it does.
	ReasonUnresponsive refusal.Reason = "tee-unresponsive"
)

// DefaultRoot is the directory of configfs-tsm.
const DefaultRoot = "/sys/kernel/config/tsm/report"

const (
	provider       = "sev_guest"
	reportSize     = 0x4a0
	maxAux         = 64 << 10
	maxCertificate = 8 << 10 // what an envelope takes
	retryPause     = 50 * time.Millisecond
	patience       = 30 * time.Second      // for one report, whatever the caller's deadline
	attempts       = 3                     // of a report that another process's request overtook
	lastWord       = 50 * time.Millisecond // for the device's own error to arrive once the time is over
)

// Files is the part of a filesystem that configfs-tsm needs. Its methods return the results of
// the system calls. The operating system implements it, and in tests a tree in memory that
// behaves like the kernel.
type Files interface {
	// Mkdir makes an entry and Remove removes it.
	Mkdir(name string) error
	Remove(name string) error
	// Read returns a file of at most limit bytes; Write replaces its content.
	Read(name string, limit int64) ([]byte, error)
	Write(name string, data []byte) error
}

// Options say where reports come from. The zero value is the running kernel.
type Options struct {
	// Root is the directory of configfs-tsm; DefaultRoot if empty.
	Root string
	// Files replaces the operating system's.
	Files Files
}

// Collector collects reports. It is safe for concurrent use.
type Collector struct {
	root  string
	files Files
	turn  chan struct{} // holds one token: whoever has it may talk to the device
	hung  atomic.Bool   // the one who has it was given up by its caller
}

// result is what became of one collection.
type result struct {
	env evidence.Envelope
	err error
}

// New returns a collector. It creates and removes one entry to find out whether there is a TEE
// at all.
func New(o Options) (*Collector, error) {
	c := &Collector{root: o.Root, files: o.Files, turn: make(chan struct{}, 1)}
	if c.root == "" {
		c.root = DefaultRoot
	}
	if c.files == nil {
		c.files = system{}
	}
	c.turn <- struct{}{}
	dir := c.root + "/anchorhold-" + rand.Text() // not another process's probe
	if err := c.files.Mkdir(dir); err != nil {
		return nil, explain(c.root, err)
	}
	name, err := c.files.Read(dir+"/provider", 256)
	if err = errors.Join(err, c.files.Remove(dir)); err != nil {
		return nil, refusal.New(ReasonDevice, "probe %s: %w", c.root, err)
	}
	if got := strings.TrimSpace(string(name)); got != provider {
		return nil, refusal.New(ReasonNoTEE, "this guest's TEE is %q; this collector supports only %s", got, provider)
	}
	return c, nil
}

// explain says what a failed first step means.
func explain(root string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refusal.New(ReasonNoTEE, "%s is absent: load the modules tsm and sev-guest and mount configfs (Linux 6.7 or later)", root)
	case errors.Is(err, unix.ENXIO):
		return refusal.New(ReasonNoTEE, "%s exists but no TEE provides reports: this is not an SEV-SNP guest, or sev-guest is not loaded", root)
	case errors.Is(err, fs.ErrPermission):
		return refusal.New(ReasonNoTEE, "this user may not create entries in %s; the tmpfiles snippet gives the agent access", root)
	}
	return refusal.New(ReasonDevice, "%s: %w", root, err)
}

// Collect returns a report over reportData with the certificates that the host offers. It waits
// for its turn until the context ends, and then at most half a minute for the firmware. A system
// call cannot be interrupted: at the deadline the goroutine that makes it is abandoned, and
// keeps the turn until the kernel answers. A device that hangs therefore blocks one goroutine,
// however often it is asked.
func (c *Collector) Collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error) {
	if ctx.Err() != nil {
		return evidence.Envelope{}, refusal.New(ReasonDevice, "before the request started: %w", context.Cause(ctx))
	}
	select {
	case <-c.turn:
	case <-ctx.Done():
		if c.hung.Load() {
			return evidence.Envelope{}, refusal.New(ReasonUnresponsive, "an earlier request has not returned: %w", context.Cause(ctx))
		}
		return evidence.Envelope{}, refusal.New(ReasonDevice, "waiting for earlier requests: %w", context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan result, 1) // room for an answer that nobody waits for any more
	go func() {
		env, err := c.collect(ctx, reportData)
		c.hung.Store(false)
		done <- result{env, err}
		c.turn <- struct{}{}
	}()
	select {
	case r := <-done:
		return r.env, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.env, r.err
	case <-time.After(lastWord):
	}
	c.hung.Store(true)
	return evidence.Envelope{}, refusal.New(ReasonUnresponsive, "the device has not answered: %w", context.Cause(ctx))
}

// collect makes a report; another one that overtakes it is an occasion to try again.
func (c *Collector) collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error) {
	var err error
	for range attempts {
		var env evidence.Envelope
		env, err = c.attempt(ctx, reportData)
		if err == nil || !errors.Is(err, errOvertaken) {
			return env, err
		}
	}
	return evidence.Envelope{}, refusal.New(ReasonDevice, "%w, %d times", err, attempts)
}

var errOvertaken = errors.New("another request overtook this one")

// attempt makes one report in an entry of its own.
func (c *Collector) attempt(ctx context.Context, reportData [64]byte) (env evidence.Envelope, err error) {
	dir := fmt.Sprintf("%s/anchorhold-%x", c.root, reportData[:8])
	if err := c.files.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return env, explain(c.root, err)
	}
	defer func() {
		if removal := c.files.Remove(dir); removal != nil && err == nil {
			err = refusal.New(ReasonDevice, "remove %s: %w", dir, removal)
		}
	}()
	before, err := c.generation(dir)
	if err != nil {
		return env, err
	}
	if err := patiently(ctx, func() error { return c.files.Write(dir+"/inblob", reportData[:]) }); err != nil {
		return env, refusal.New(ReasonDevice, "write REPORT_DATA: %w", err)
	}
	var report, aux []byte
	err = patiently(ctx, func() (err error) { report, err = c.files.Read(dir+"/outblob", reportSize+1); return err })
	if err != nil {
		return env, refusal.New(ReasonDevice, "read the report: %w", err)
	}
	if aux, err = c.files.Read(dir+"/auxblob", maxAux); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return env, refusal.New(ReasonDevice, "read the certificates: %w", err)
	}
	after, err := c.generation(dir)
	if err != nil {
		return env, err
	}
	if after != before+1 {
		return env, errOvertaken
	}
	return envelope(report, aux, reportData)
}

func (c *Collector) generation(dir string) (uint64, error) {
	text, err := c.files.Read(dir+"/generation", 32)
	if err != nil {
		return 0, refusal.New(ReasonDevice, "read the generation: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, refusal.New(ReasonDevice, "malformed generation %q", text)
	}
	return n, nil
}

// patiently repeats a step while the firmware is busy, until the context ends.
func patiently(ctx context.Context, step func() error) error {
	for {
		err := step()
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(retryPause):
		}
	}
}

// envelope checks that the report is the one asked for: a cached one would be
// refused by the broker, later and with less to say about it.
func envelope(report, aux []byte, reportData [64]byte) (evidence.Envelope, error) {
	if len(report) != reportSize {
		return evidence.Envelope{}, refusal.New(ReasonDevice, "got a report of %d bytes", len(report))
	}
	if !bytes.Equal(report[0x50:0x90], reportData[:]) {
		return evidence.Envelope{}, refusal.New(ReasonDevice, "the kernel returned a report for different REPORT_DATA")
	}
	issuer := evidence.EndorsementASK
	vlek := binary.LittleEndian.Uint32(report[0x48:])>>2&7 == 1
	if vlek {
		issuer = evidence.EndorsementASVK
	}
	certificates, err := parseTable(aux, issuer)
	if err != nil {
		return evidence.Envelope{}, err
	}
	parts := []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}
	wanted := []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASK, evidence.EndorsementVCEK}
	if vlek {
		wanted = []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASVK, evidence.EndorsementVLEK}
	}
	for _, t := range wanted {
		if der := certificates[t]; der != nil {
			parts = append(parts, evidence.Part{Type: t, Data: der})
		}
	}
	return evidence.NewEnvelope(evidence.KindSNP, parts...)
}
