package vtpm

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Places of a Linux guest.
const (
	DefaultDevice = "/dev/tpmrm0"
	DefaultLog    = "/sys/kernel/security/tpm0/binary_bios_measurements"
)

// Limits.
const (
	// MaxNonceBytes is the largest nonce that every TPM with SHA-512 takes.
	MaxNonceBytes = 64
	// MaxLogBytes bounds the event log.
	MaxLogBytes = evidence.MaxLogBytes

	attempts = 5 // of a quote whose registers changed meanwhile
)

// Device is an open TPM: Send carries one command and returns its response. The kernel's device
// and the emulator's socket are devices, and a test may wrap one.
type Device interface {
	Send(command []byte) (response []byte, err error)
	Close() error
}

// Options say which TPM quotes what. PCRs are required.
type Options struct {
	// Device is the kernel's device or the Unix socket of an emulator; DefaultDevice if empty.
	Device string
	// Open replaces the opening of Device, which it then ignores.
	Open func() (Device, error)
	// Log is the kernel's file of the measured boot; DefaultLog if empty.
	Log string
	// Bank is [evidence.BankSHA256], the default, or [evidence.BankSHA384].
	Bank string
	// PCRs are the registers to quote, by number.
	PCRs []int
	// Key is the attestation key.
	Key Key
}

// Evidence is what was collected.
type Evidence struct {
	// Quote is an [evidence.TPMQuote], encoded.
	Quote []byte
	// Certificate is that of the key (DER), if the key has one.
	Certificate []byte
}

// Collector collects quotes. It is safe for concurrent use.
type Collector struct {
	opt   Options
	queue *device.Queue
	// newest is what this process sealed last, by the counter's index; owned by whoever has the queue's turn.
	newest map[uint32]counted
}

// New checks the options; it does not touch the TPM.
func New(o Options) (*Collector, error) {
	if o.Bank == "" {
		o.Bank = evidence.BankSHA256
	}
	if o.Bank != evidence.BankSHA256 && o.Bank != evidence.BankSHA384 {
		return nil, fmt.Errorf("vtpm: unknown bank %q", o.Bank)
	}
	o.PCRs = slices.Clone(o.PCRs)
	slices.Sort(o.PCRs)
	o.PCRs = slices.Compact(o.PCRs)
	if len(o.PCRs) == 0 || o.PCRs[0] < 0 || o.PCRs[len(o.PCRs)-1] >= evidence.MaxPCRs {
		return nil, fmt.Errorf("vtpm: PCRs %v, want some of 0 to %d", o.PCRs, evidence.MaxPCRs-1)
	}
	if err := o.Key.check(); err != nil {
		return nil, err
	}
	if o.Device == "" {
		o.Device = DefaultDevice
	}
	if o.Log == "" {
		o.Log = DefaultLog
	}
	if o.Open == nil {
		path := o.Device
		o.Open = func() (Device, error) { return open(path) }
	}
	return &Collector{opt: o, queue: device.NewQueue(), newest: map[uint32]counted{}}, nil
}

// open opens the kernel's device, or connects to an emulator.
func open(path string) (Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return linuxudstpm.Open(path)
	}
	return linuxtpm.Open(path)
}

// explain says what a failed opening means.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refusal.New(ReasonNoTPM, "%s is absent: this guest has no TPM, or the kernel no driver for it: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return refusal.New(ReasonNoTPM, "this user may not open %s: the drop-in tpm.conf gives it to the agent: %w", path, err)
	}
	return refusal.New(ReasonDevice, "open %s: %w", path, err)
}

// during runs f with an open TPM once it is the caller's turn.
func during[T any](ctx context.Context, c *Collector, f func(context.Context, transport.TPM) (T, error)) (T, error) {
	return device.Call(ctx, c.queue, func(ctx context.Context) (value T, err error) {
		err = c.opened(ctx, func(ctx context.Context, tpm transport.TPM) (err error) {
			value, err = f(ctx, tpm)
			return err
		})
		return value, err
	})
}

// opened runs f between opening and closing the TPM. Each error of f's becomes a refusal, and so
// does a panic of the library's: who emulates the TPM may answer as he likes.
func (c *Collector) opened(ctx context.Context, f func(context.Context, transport.TPM) error) (err error) {
	tpm, err := c.opt.Open()
	if err != nil {
		return explain(c.opt.Device, err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = refusal.New(ReasonDevice, "the TPM's answer could not be read: %v", p)
		}
		if err = errors.Join(err, tpm.Close()); err == nil {
			return
		}
		if _, ok := refusal.ReasonOf(err); !ok {
			err = refusal.New(ReasonDevice, "%w", err)
		}
	}()
	return f(ctx, unhurried(ctx, tpm))
}

// sender is a TPM in the form of the library.
type sender func(command []byte) ([]byte, error)

// Send carries one command.
func (s sender) Send(command []byte) ([]byte, error) { return s(command) }

const maxResponse = 4096

// unhurried sends nothing more once the caller's time is over, and bounds what it reads.
func unhurried(ctx context.Context, tpm Device) sender {
	return func(command []byte) ([]byte, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		response, err := tpm.Send(command)
		if err == nil && len(response) > maxResponse {
			return nil, fmt.Errorf("a response of %d bytes", len(response))
		}
		return response, err
	}
}

// Collect quotes the registers over a nonce of 8 to MaxNonceBytes bytes.
func (c *Collector) Collect(ctx context.Context, nonce []byte) (Evidence, error) {
	if len(nonce) < 8 || len(nonce) > MaxNonceBytes {
		return Evidence{}, refusal.New(ReasonDevice, "a nonce of %d bytes", len(nonce))
	}
	return during(ctx, c, func(ctx context.Context, tpm transport.TPM) (e Evidence, err error) {
		key, err := c.opt.Key.load(tpm)
		if err != nil {
			return e, err
		}
		defer func() { err = errors.Join(err, key.flush(tpm)) }()
		if e.Quote, err = c.quote(tpm, key, nonce); err != nil {
			return e, err
		}
		e.Certificate, err = c.opt.Key.certificate(tpm)
		return e, err
	})
}

// EventLog reads the kernel's log of the measured boot, which evidence binds before the quote is
// made. One that is larger than evidence takes is not read at all.
func (c *Collector) EventLog(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, refusal.New(ReasonDevice, "the event log: %w", context.Cause(ctx))
	}
	return readLog(c.opt.Log)
}

// PublicKey returns the attestation key's public area (TPMT_PUBLIC) and its name, which an
// operator enrols.
func (c *Collector) PublicKey(ctx context.Context) (public, name []byte, err error) {
	both, err := during(ctx, c, func(_ context.Context, tpm transport.TPM) (both [2][]byte, err error) {
		key, err := c.opt.Key.load(tpm)
		if err != nil {
			return both, err
		}
		return [2][]byte{key.public, key.handle.Name.Buffer}, key.flush(tpm)
	})
	return both[0], both[1], err
}

// readLog reads the kernel's log, which is no larger than the limit or not read at all.
func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refusal.New(ReasonDevice, "the event log %s is absent: this firmware keeps none, or securityfs is not mounted: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, refusal.New(ReasonDevice, "this user may not read the event log %s; the drop-in tpm.conf lets the agent: %w", path, err)
	case err != nil:
		return nil, refusal.New(ReasonDevice, "the event log: %w", err)
	}
	log, err := io.ReadAll(io.LimitReader(f, MaxLogBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, refusal.New(ReasonDevice, "the event log: %w", err)
	}
	if len(log) == 0 || len(log) > MaxLogBytes {
		return nil, refusal.New(ReasonDevice, "the event log %s is empty or larger than %d bytes, which is all that evidence takes", path, MaxLogBytes)
	}
	return log, nil
}

var errChanged = errors.New("a register changed meanwhile")

// quote makes a quote of values that it read; registers that change in between, as the system
// measures more, are an occasion to try again.
func (c *Collector) quote(tpm transport.TPM, key *loadedKey, nonce []byte) ([]byte, error) {
	var err error
	for range attempts {
		var quote []byte
		if quote, err = c.attempt(tpm, key, nonce); err == nil || !errors.Is(err, errChanged) {
			return quote, err
		}
	}
	return nil, refusal.New(ReasonDevice, "%w, %d times", err, attempts)
}

func (c *Collector) attempt(tpm transport.TPM, key *loadedKey, nonce []byte) ([]byte, error) {
	values, err := c.readPCRs(tpm, c.opt.PCRs)
	if err != nil {
		return nil, err
	}
	response, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: key.handle.Handle, Name: key.handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: nonce},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      c.selection(c.opt.PCRs),
	}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	attested, err := response.Quoted.Contents()
	if err != nil {
		return nil, fmt.Errorf("read the quote: %w", err)
	}
	info, err := attested.Attested.Quote()
	if err != nil {
		return nil, fmt.Errorf("read the quote: %w", err)
	}
	if subtle.ConstantTimeCompare(attested.ExtraData.Buffer, nonce) != 1 {
		return nil, refusal.New(ReasonDevice, "the TPM returned a quote over another nonce")
	}
	h, err := signatureHash(response.Signature)
	if err != nil {
		return nil, err
	}
	for _, n := range c.opt.PCRs {
		h.Write(values[n]) // hash.Hash never fails
	}
	if !bytes.Equal(h.Sum(nil), info.PCRDigest.Buffer) {
		return nil, errChanged
	}
	return evidence.TPMQuote{Attest: response.Quoted.Bytes(), Signature: tpm2.Marshal(response.Signature), Public: key.public, Bank: c.opt.Bank, PCRs: values}.Marshal()
}

// readPCRs reads the registers' values. A TPM returns at most eight at once, and leaves out those
// of a bank that it does not have.
func (c *Collector) readPCRs(tpm transport.TPM, pcrs []int) (map[int]evidence.Hex, error) {
	values := map[int]evidence.Hex{}
	for rest := pcrs; len(rest) > 0; rest = rest[min(len(rest), 8):] {
		part := rest[:min(len(rest), 8)]
		response, err := tpm2.PCRRead{PCRSelectionIn: c.selection(part)}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		if len(response.PCRValues.Digests) != len(part) {
			return nil, refusal.New(ReasonDevice, "the TPM returned %d of %d PCRs: it may lack the bank %s", len(response.PCRValues.Digests), len(part), c.opt.Bank)
		}
		for i, n := range part {
			values[n] = response.PCRValues.Digests[i].Buffer
		}
	}
	return values, nil
}

func (c *Collector) selection(pcrs []int) tpm2.TPMLPCRSelection {
	bitmap := make([]byte, evidence.MaxPCRs/8)
	for _, n := range pcrs {
		bitmap[n/8] |= 1 << (n % 8)
	}
	alg := tpm2.TPMAlgSHA256
	if c.opt.Bank == evidence.BankSHA384 {
		alg = tpm2.TPMAlgSHA384
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: alg, PCRSelect: bitmap}}}
}
