package vtpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// bus records all that passes between the guest and its TPM, as whoever listens there sees it.
type bus struct {
	Device
	mu       *sync.Mutex
	commands *[][]byte // guarded by mu, with the answers
	answers  *[][]byte
}

func (b bus) Send(command []byte) ([]byte, error) {
	response, err := b.Device.Send(command)
	b.mu.Lock()
	defer b.mu.Unlock()
	*b.commands, *b.answers = append(*b.commands, bytes.Clone(command)), append(*b.answers, bytes.Clone(response))
	return response, err
}

// listening is a collector on a bus that is recorded.
func listening(t *testing.T, socket string) (*Collector, func() [][]byte) {
	t.Helper()
	var mu sync.Mutex
	var commands, answers [][]byte
	c := newCollector(t, Options{PCRs: []int{0, 4, 7}, Open: func() (Device, error) {
		d, err := linuxudstpm.Open(socket)
		return bus{d, &mu, &commands, &answers}, err
	}})
	return c, func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return slices.Concat(commands, answers)
	}
}

func newSecret(t *testing.T) []byte {
	t.Helper()
	secret := make([]byte, SecretBytes)
	rand.Read(secret)
	return secret
}

func seal(t *testing.T, c *Collector, opens uint16, secret []byte) Sealed {
	t.Helper()
	s, err := c.Seal(t.Context(), SealCounter, opens, secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSealedKeyOpensAsOftenAsItMay: each opening is counted, and neither a copy nor what was sealed
// before opens any more once it is over.
func TestSealedKeyOpensAsOftenAsItMay(t *testing.T) {
	c, seen := listening(t, startTPM(t))
	first, secret := newSecret(t), newSecret(t)
	old := seal(t, c, MaxOpens, first)
	s := seal(t, c, 2, secret)
	_, err := c.Open(t.Context(), old)
	wantReason(t, err, ReasonCount) // it has openings left, and is not the last that was sealed
	o, err := c.Open(t.Context(), s)
	if err != nil || !bytes.Equal(o.Secret, secret) || o.Number != 2 { // the attempt with the old one counted
		t.Fatalf("%+v, %v", o, err)
	}
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonCount)
	for _, b := range seen() {
		for _, key := range [][]byte{first, secret} {
			for at := 0; at+8 <= len(key); at++ {
				if bytes.Contains(b, key[at:at+8]) {
					t.Fatalf("eight bytes of a key cross the bus in a message of %d bytes", len(b))
				}
			}
		}
	}
	encrypted := 0
	for _, b := range seen() {
		if len(b) > 10 && binary.BigEndian.Uint32(b[6:]) == uint32(tpm2.TPMCCStartAuthSession) {
			// Neither unsalted (TPM_RH_NULL) nor without a cipher.
			if binary.BigEndian.Uint32(b[10:]) == uint32(tpm2.TPMRHNull) || !bytes.Contains(b, []byte{0, 6, 0, 128, 0, 0x43}) {
				t.Errorf("a session without salt or encryption: %x", b)
			}
			encrypted++
		}
	}
	if encrypted < 3 { // two sealings, and what was opened
		t.Errorf("%d salted sessions were seen: the search is broken", encrypted)
	}
}

// TestTheTPMItselfRefuses: the guest's own checks are left out, as code that somebody changed would.
func TestTheTPMItselfRefuses(t *testing.T) {
	socket := startTPM(t)
	c := newCollector(t, Options{Device: socket, PCRs: []int{0, 23}})
	s := seal(t, c, 1, newSecret(t))
	unseal := func(s Sealed, session func(transport.TPM, tpm2.TPMISHPolicy) error) error {
		_, err := during(t.Context(), c, func(_ context.Context, tpm transport.TPM) (struct{}, error) {
			parent, err := storageKey(tpm)
			if err != nil {
				return struct{}{}, err
			}
			defer parent.flush(tpm) //nolint:errcheck // the test is about another error
			loaded, err := tpm2.Load{ParentHandle: tpm2.AuthHandle{Handle: parent.handle.Handle, Name: parent.handle.Name, Auth: tpm2.PasswordAuth(nil)},
				InPrivate: tpm2.TPM2BPrivate{Buffer: s.Private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](s.Public)}.Execute(tpm)
			if err != nil {
				return struct{}{}, err
			}
			defer tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(tpm) //nolint:errcheck // as above
			_, err = tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: parent.encrypted(tpm2.AESEncryption(128, tpm2.EncryptOut),
				func(tpm transport.TPM, p tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error { return session(tpm, p) })}}.Execute(tpm)
			return struct{}{}, err
		})
		return err
	}
	whole := func(tpm transport.TPM, p tpm2.TPMISHPolicy) error { return c.satisfy(tpm, p, s.Index, s.Last) }
	if err := unseal(s, whole); err != nil {
		t.Fatal(err)
	}
	if err := unseal(s, func(tpm transport.TPM, p tpm2.TPMISHPolicy) error {
		_, err := tpm2.PolicyPCR{PolicySession: p, Pcrs: c.selection(c.opt.PCRs)}.Execute(tpm)
		return err
	}); err == nil {
		t.Error("opened without the counter")
	}
	if err := unseal(s, func(tpm transport.TPM, p tpm2.TPMISHPolicy) error { return c.satisfy(tpm, p, s.Index, s.Last+100) }); err == nil {
		t.Error("opened for another count")
	}
	if err := unseal(s, func(transport.TPM, tpm2.TPMISHPolicy) error { return nil }); err == nil {
		t.Error("opened without a policy")
	}
	if _, err := c.Open(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := during(t.Context(), c, func(_ context.Context, tpm transport.TPM) (uint64, error) { return increment(tpm, s.Index, 1) }); err != nil {
		t.Fatal(err)
	}
	if err := unseal(s, whole); err == nil {
		t.Error("opened past the count")
	}
	s = seal(t, c, 1, newSecret(t))
	device := openSocket(t, socket)
	extend(t, device, 23)
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unseal(s, whole); err == nil {
		t.Error("opened with other PCRs")
	}
}

// TestSealRefusals: in each only one thing is another than when it was sealed.
func TestSealRefusals(t *testing.T) {
	socket := startTPM(t)
	c := newCollector(t, Options{Device: socket, PCRs: []int{0, 23}})
	again := func() Sealed { return seal(t, c, 3, newSecret(t)) }

	s := again()
	other := newCollector(t, Options{Device: startTPM(t), PCRs: []int{0, 23}})
	_, err := other.Open(t.Context(), s)
	wantReason(t, err, ReasonSealedElsewhere)
	s.Parent = seal(t, other, 3, newSecret(t)).Parent // whoever writes the file writes another name
	_, err = other.Open(t.Context(), s)
	if reason, _ := refusal.ReasonOf(err); reason != ReasonSealedElsewhere && reason != ReasonCount {
		t.Error(err)
	}

	s = again()
	device := openSocket(t, socket)
	extend(t, device, 23)
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonRegisters)

	s = again()
	s.Last, s.Opens = s.Last+1, s.Opens+1
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonRegisters) // the policy names the count, too

	s = again()
	s.Opens = 1 // the same last count, which a TPM that was set back would not have reached
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonCount)

	s = again()
	if err := c.Exhaust(t.Context(), SealCounter); err != nil {
		t.Fatal(err)
	}
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonCount)
	if err := c.Exhaust(t.Context(), SealCounter+1); err != nil {
		t.Errorf("a counter that does not exist: %v", err)
	}

	s = again()
	if _, err := during(t.Context(), c, func(_ context.Context, tpm transport.TPM) (struct{}, error) {
		n, err := openNV(tpm, SealCounter)
		if err == nil {
			_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, NVIndex: n.handle}.Execute(tpm)
		}
		return struct{}{}, err
	}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonCounter)
	again() // defines it again, above all that was
	_, err = c.Open(t.Context(), s)
	wantReason(t, err, ReasonCount)

	if err := c.WriteNV(t.Context(), SealCounter+2, make([]byte, counterBytes)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Seal(t.Context(), SealCounter+2, 1, newSecret(t))
	wantReason(t, err, ReasonCounter)
	for _, bad := range []uint16{0, MaxOpens + 1} {
		_, err = c.Seal(t.Context(), SealCounter, bad, newSecret(t))
		wantReason(t, err, ReasonDevice)
	}
	_, err = c.Seal(t.Context(), SealCounter, 1, nil)
	wantReason(t, err, ReasonDevice)
	for name, change := range map[string]func(*Sealed){
		"no index": func(s *Sealed) { s.Index = 1 }, "no parent": func(s *Sealed) { s.Parent = nil }, "no private": func(s *Sealed) { s.Private = nil }, "no public": func(s *Sealed) { s.Public = nil },
		"too often": func(s *Sealed) { s.Opens = MaxOpens + 1 }, "never": func(s *Sealed) { s.Opens = 0 }, "before zero": func(s *Sealed) { s.Last = 0 }, "large": func(s *Sealed) { s.Private = make([]byte, maxBlobBytes+1) },
	} {
		bad := s
		change(&bad)
		if _, err := c.Open(t.Context(), bad); err == nil {
			t.Errorf("%s: opened", name)
		} else if reason, _ := refusal.ReasonOf(err); reason != ReasonDevice {
			t.Errorf("%s: %v", name, err)
		}
	}
	spoiled := again()
	spoiled.Private[len(spoiled.Private)-1] ^= 1
	_, err = c.Open(t.Context(), spoiled)
	wantReason(t, err, ReasonSealedElsewhere)
	mute := newCollector(t, Options{Device: silent(t), PCRs: []int{0}})
	if _, err := mute.Open(soon(t), s); err == nil {
		t.Error("a TPM that does not answer opened")
	}
}
