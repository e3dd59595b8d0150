package vtpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

var nonce = []byte("0123456789abcdef0123456789abcdef")

// check verifies a quote's signature, nonce and registers by hand; the broker's verifier has its
// own tests.
func check(t *testing.T, e Evidence, bank string, pcrs int) evidence.TPMQuote {
	t.Helper()
	q, err := evidence.ParseTPMQuote(e.Quote)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](q.Public)
	if err != nil {
		t.Fatal(err)
	}
	point, err := public.Unique.ECC()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](q.Signature)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := signature.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, point.X.Buffer, point.Y.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	d := sha256.Sum256(q.Attest)
	if !ecdsa.Verify(key, d[:], new(big.Int).SetBytes(ec.SignatureR.Buffer), new(big.Int).SetBytes(ec.SignatureS.Buffer)) {
		t.Error("the signature does not verify")
	}
	if !bytes.Contains(q.Attest, nonce) || q.Bank != bank || len(q.PCRs) != pcrs {
		t.Errorf("bank %s, %d registers, attestation %x", q.Bank, len(q.PCRs), q.Attest)
	}
	return q
}

func TestQuoteOfASoftwareTPM(t *testing.T) {
	socket := startTPM(t)
	for _, bank := range []string{evidence.BankSHA256, evidence.BankSHA384} {
		c := newCollector(t, Options{Device: socket, Bank: bank})
		for range 4 { // more often than the TPM has room for keys
			e, err := c.Collect(t.Context(), nonce)
			if err != nil {
				t.Fatal(err)
			}
			check(t, e, bank, 12)
			if log, err := c.EventLog(t.Context()); err != nil || string(log) != "the log" || e.Certificate != nil {
				t.Errorf("%q, %v, %x", log, err, e.Certificate)
			}
		}
	}
}

// The key is the same each time, so that an operator can enrol it; another hierarchy has another.
func TestKeyStaysTheSame(t *testing.T) {
	socket := startTPM(t)
	public, name, err := newCollector(t, Options{Device: socket}).PublicKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := sha256.Sum256(public)
	if !bytes.Equal(name, append([]byte{0, 0x0b}, d[:]...)) {
		t.Errorf("name %x of %x", name, public)
	}
	again, _, err := newCollector(t, Options{Device: socket}).PublicKey(t.Context())
	if err != nil || !bytes.Equal(again, public) {
		t.Errorf("%x, then %x, %v", public, again, err)
	}
	owner, _, err := newCollector(t, Options{Device: socket, Key: Key{Owner: true}}).PublicKey(t.Context())
	if err != nil || bytes.Equal(owner, public) {
		t.Errorf("the owner's is %x, %v", owner, err)
	}
	e, err := newCollector(t, Options{Device: socket}).Collect(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if q := check(t, e, evidence.BankSHA256, 12); !bytes.Equal(q.Public, public) {
		t.Errorf("quoted with %x", q.Public)
	}
}

// A key at a handle, as Azure has one, and a key from a template beside its certificate, as
// Google has one.
func TestKeysThatTheCloudProvides(t *testing.T) {
	socket := startTPM(t)
	device := openSocket(t, socket)
	made, err := Key{Owner: true}.load(device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &made.handle, PersistentHandle: AzureKey}.Execute(device)
	if err = errors.Join(err, made.flush(device)); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t, Options{Device: socket, Key: Key{Handle: AzureKey}})
	e, err := c.Collect(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if q := check(t, e, evidence.BankSHA256, 12); !bytes.Equal(q.Public, made.public) {
		t.Errorf("%x, want %x", q.Public, made.public)
	}
	key := GoogleKeyECC()
	certificate := bytes.Repeat([]byte("certificate "), 100)
	template := keyTemplate()
	template.ObjectAttributes.NoDA = false // another key than the one that is made without it
	for index, data := range map[uint32][]byte{key.TemplateIndex: tpm2.Marshal(template), key.CertificateIndex: certificate} {
		if err := c.WriteNV(t.Context(), index, data); err != nil {
			t.Fatal(err)
		}
	}
	if e, err = newCollector(t, Options{Device: socket, Key: key}).Collect(t.Context(), nonce); err != nil || !bytes.Equal(e.Certificate, certificate) {
		t.Errorf("%x, %v", e.Certificate, err)
	}
	q := check(t, e, evidence.BankSHA256, 12)
	if public, err := tpm2.Unmarshal[tpm2.TPMTPublic](q.Public); err != nil || public.ObjectAttributes.NoDA {
		t.Errorf("not the template's key: %+v, %v", public, err)
	}
}

// miserly is a device that answers readings of NV indices with nothing.
type miserly struct{ Device }

func (m miserly) Send(command []byte) ([]byte, error) {
	response, err := m.Device.Send(command)
	if err != nil || binary.BigEndian.Uint32(command[6:]) != uint32(tpm2.TPMCCNVRead) {
		return response, err
	}
	parameters := int(binary.BigEndian.Uint32(response[10:]))
	short := slices.Concat(response[:10], []byte{0, 0, 0, 2, 0, 0}, response[14+parameters:])
	binary.BigEndian.PutUint32(short[2:], uint32(len(short)))
	return short, nil
}

func TestReadingThatBringsNothingEnds(t *testing.T) {
	socket := startTPM(t)
	c := newCollector(t, Options{Device: socket, Open: func() (Device, error) { return miserly{openSocket(t, socket)}, nil }})
	if err := c.WriteNV(t.Context(), AzureReportData, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	_, err := c.ReadNV(t.Context(), AzureReportData, 64)
	wantReason(t, err, ReasonDevice, "got 0")
}

func TestSmallMemoryIsReadAndWrittenWithinLimits(t *testing.T) {
	c := newCollector(t, Options{Device: startTPM(t)})
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5}, 500)[:2048]
	if err := c.WriteNV(t.Context(), AzureReport, data); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadNV(t.Context(), AzureReport, MaxNVBytes); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	data[0] = 9
	if err := c.WriteNV(t.Context(), AzureReport, data[:64]); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadNV(t.Context(), AzureReport, 2048); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err := c.ReadNV(t.Context(), AzureReport, 2047)
	wantReason(t, err, ReasonDevice, "2048")
	_, err = c.ReadNV(t.Context(), AzureReport, 0)
	wantReason(t, err, ReasonDevice)
	_, err = c.ReadNV(t.Context(), AzureReport, MaxNVBytes+1)
	wantReason(t, err, ReasonDevice)
	_, err = c.ReadNV(t.Context(), AzureReportData, 64)
	wantReason(t, err, ReasonDevice, "0x1400002")
	_, err = c.ReadNV(t.Context(), 0x81000001, 64)
	wantReason(t, err, ReasonDevice, "no NV index")
	wantReason(t, c.WriteNV(t.Context(), AzureReport, nil), ReasonDevice)
	wantReason(t, c.WriteNV(t.Context(), AzureReport, make([]byte, MaxNVBytes+1)), ReasonDevice)
	wantReason(t, c.WriteNV(t.Context(), AzureReport, make([]byte, 2049)), ReasonDevice, "do not fit")
}

// A register that changes between reading and quoting is read again; one that always changes is
// an error.
func TestRegistersThatChangeAreReadAgain(t *testing.T) {
	socket := startTPM(t)
	for name, c := range map[string]struct {
		times int
		ok    bool
	}{"never": {0, true}, "twice": {2, true}, "always": {attempts, false}} {
		left := c.times
		o := Options{Device: socket, Open: func() (Device, error) {
			return between{openSocket(t, socket), func(command uint32) {
				if command == uint32(tpm2.TPMCCQuote) && left > 0 {
					left--
					extend(t, openSocket(t, socket), 14)
				}
			}}, nil
		}}
		e, err := newCollector(t, o).Collect(t.Context(), nonce)
		if !c.ok {
			wantReason(t, err, ReasonDevice, "changed")
			continue
		}
		if err != nil || left != 0 {
			t.Errorf("%s: %v, %d left", name, err, left)
			continue
		}
		check(t, e, evidence.BankSHA256, 12)
	}
}

// replaying is a device that answers every request for a quote with the first quote.
type replaying struct {
	Device
	first *[]byte
}

func (r replaying) Send(command []byte) ([]byte, error) {
	response, err := r.Device.Send(command)
	if err == nil && binary.BigEndian.Uint32(command[6:]) == uint32(tpm2.TPMCCQuote) {
		if *r.first == nil {
			*r.first = response
		}
		return *r.first, nil
	}
	return response, err
}

func TestQuoteOverAnotherNonceIsRefused(t *testing.T) {
	socket := startTPM(t)
	var first []byte
	c := newCollector(t, Options{Device: socket, Open: func() (Device, error) { return replaying{openSocket(t, socket), &first}, nil }})
	if _, err := c.Collect(t.Context(), nonce); err != nil {
		t.Fatal(err)
	}
	_, err := c.Collect(t.Context(), append([]byte{'x'}, nonce[1:]...))
	wantReason(t, err, ReasonDevice, "another nonce")
}

func TestManyCallersQueue(t *testing.T) {
	c := newCollector(t, Options{Device: startTPM(t)})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := c.Collect(t.Context(), nonce); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A TPM that never answers ends nobody's patience but the caller's, and blocks one goroutine.
func TestTPMThatNeverAnswersEndsAtTheDeadline(t *testing.T) {
	socket := silent(t)
	c := newCollector(t, Options{Device: socket})
	_, err := c.Collect(soon(t), nonce)
	wantReason(t, err, device.ReasonUnresponsive, "has not answered")
	for range 3 {
		_, err = c.ReadNV(soon(t), AzureReport, 64)
		wantReason(t, err, device.ReasonUnresponsive, "earlier request")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Collect(ended, nonce)
	wantReason(t, err, device.ReasonFailed, "before the request")
}

// stalled is a device that answers with nothing until it is let go.
type stalled struct{ release <-chan struct{} }

func (s stalled) Send([]byte) ([]byte, error) { <-s.release; return nil, errors.New("too late") }
func (stalled) Close() error                  { return nil }

// Once a TPM that hung answers again, it is used again.
func TestTPMThatRecoversIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c, err := New(Options{PCRs: []int{0}, Open: func() (Device, error) { return stalled{release}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = c.Collect(t.Context(), nonce)
		wantReason(t, err, device.ReasonUnresponsive)
		if took := time.Since(begin); took < device.Patience || took > device.Patience+time.Second {
			t.Errorf("it took %v", took)
		}
		waiting, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Collect(waiting, nonce)
		wantReason(t, err, device.ReasonUnresponsive, "earlier")
		close(release)
		_, err = c.Collect(t.Context(), nonce)
		wantReason(t, err, ReasonDevice, "too late")
	})
}

// babbling is a device that answers with the given bytes.
type babbling struct{ answer []byte }

func (b babbling) Send([]byte) ([]byte, error) { return b.answer, nil }
func (babbling) Close() error                  { return nil }

// FuzzAnswer: whatever the TPM answers is an error or a quote that parses, and never a panic.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0})
	f.Add([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 1, 0, 0})
	f.Add(append([]byte{0x80, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 200}, make([]byte, 238)...))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c, err := New(Options{PCRs: []int{0}, Open: func() (Device, error) { return babbling{answer}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		e, err := c.Collect(t.Context(), nonce)
		if err == nil {
			if _, err := evidence.ParseTPMQuote(e.Quote); err != nil {
				t.Error(err)
			}
			return
		}
		wantReason(t, err, ReasonDevice)
		_, err = c.ReadNV(t.Context(), AzureReport, 64)
		if err != nil {
			wantReason(t, err, ReasonDevice)
		}
	})
}

type panicking struct{}

func (panicking) Send([]byte) ([]byte, error) { panic("the library's") }
func (panicking) Close() error                { return nil }

func TestFailuresAreRefusals(t *testing.T) {
	for name, o := range map[string]Options{
		"a panic":           {Open: func() (Device, error) { return panicking{}, nil }},
		"a long answer":     {Open: func() (Device, error) { return babbling{make([]byte, maxResponse+1)}, nil }},
		"no device":         {Device: filepath.Join(t.TempDir(), "none")},
		"no device, a file": {Device: "/dev/../etc/hostname"},
	} {
		_, err := newCollector(t, o).Collect(t.Context(), nonce)
		reason := ReasonDevice
		if name == "no device" {
			reason = ReasonNoTPM
		}
		wantReason(t, err, reason)
	}
	wantReason(t, explain("/dev/tpmrm0", os.ErrPermission), ReasonNoTPM, "tpm.conf")
	c := newCollector(t, Options{Open: func() (Device, error) { return panicking{}, nil }})
	for _, size := range []int{0, 7, MaxNonceBytes + 1} {
		_, err := c.Collect(t.Context(), make([]byte, size))
		wantReason(t, err, ReasonDevice, "nonce")
	}
}

func TestLogsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for size, ok := range map[int]bool{0: false, 1: true, MaxLogBytes: true, MaxLogBytes + 1: false} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		log, err := readLog(path)
		if (err == nil) != ok || ok && len(log) != size {
			t.Errorf("%d bytes: %d, %v", size, len(log), err)
		}
	}
	_, err := readLog(path + "-none")
	wantReason(t, err, ReasonDevice)
	c := newCollector(t, Options{Log: path + "-none"})
	_, err = c.EventLog(t.Context())
	wantReason(t, err, ReasonDevice, "event log", "absent")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.opt.Log = path
	_, err = c.EventLog(ended)
	wantReason(t, err, ReasonDevice)
}

// What a cloud's guest asks its TPM to find out where it is: no such index, and no TPM, are another
// answer than a TPM that fails.
func TestWhatIsNotThereIsSaidToBeAbsent(t *testing.T) {
	socket := startTPM(t)
	_, err := newCollector(t, Options{Device: socket}).ReadNV(t.Context(), AzureReport, 4096)
	if wantReason(t, err, ReasonDevice); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	_, err = newCollector(t, Options{Device: filepath.Join(t.TempDir(), "none")}).ReadNV(t.Context(), AzureReport, 4096)
	if wantReason(t, err, ReasonNoTPM); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	_, err = newCollector(t, Options{Open: func() (Device, error) { return panicking{}, nil }}).ReadNV(t.Context(), AzureReport, 4096)
	if wantReason(t, err, ReasonDevice); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"no PCRs": {}, "PCR 24": {PCRs: []int{24}}, "negative PCR": {PCRs: []int{-1}}, "SHA-1": {PCRs: []int{0}, Bank: "sha1"},
		"transient handle": {PCRs: []int{0}, Key: Key{Handle: 0x80000000}}, "two keys": {PCRs: []int{0}, Key: Key{Handle: AzureKey, Owner: true}},
		"handle and template": {PCRs: []int{0}, Key: Key{Handle: AzureKey, TemplateIndex: 0x01c10001}},
		"no index":            {PCRs: []int{0}, Key: Key{TemplateIndex: 0x81000000}}, "no certificate's index": {PCRs: []int{0}, Key: Key{CertificateIndex: 1}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := New(Options{PCRs: []int{7, 0, 7}})
	if err != nil || !slices.Equal(c.opt.PCRs, []int{0, 7}) || c.opt.Bank != evidence.BankSHA256 || c.opt.Log != DefaultLog || c.opt.Device != DefaultDevice {
		t.Errorf("%+v, %v", c, err)
	}
	for _, k := range []Key{{}, GoogleKey(), GoogleKeyECC(), {Handle: AzureKey}, {Owner: true}} {
		if err := k.check(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkCollect(b *testing.B) {
	c := newCollector(b, Options{Device: startTPM(b)})
	for b.Loop() {
		if _, err := c.Collect(b.Context(), nonce); err != nil {
			b.Fatal(err)
		}
	}
}
