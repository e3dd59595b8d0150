//go:build !release

package localseal

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/guest/vtpm/vtpmtest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

func newTPM(t *testing.T) *vtpm.Collector {
	t.Helper()
	c, err := vtpm.New(vtpm.Options{Device: vtpmtest.Start(t), PCRs: []int{0, 4, 7}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newGuest is a guest of SEV-SNP whose measurement repeats one byte. All are on one chip.
func newGuest(t *testing.T, measurement byte, tcb uint64) *teesim.TEE {
	t.Helper()
	o := teesim.Options{Dir: brokertest.ChainDir(t), TCB: &teesim.TCBs{Committed: tcb}}
	copy(o.Measurement[:], bytes.Repeat([]byte{measurement}, 48))
	tee, err := teesim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tee
}

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestKeyIsMadeAgain in each way, and counted where something counts.
func TestKeyIsMadeAgain(t *testing.T) {
	for name, s := range map[string]*Sealer{
		"tpm": {TPM: newTPM(t)}, "sev-snp": {SNP: newGuest(t, 1, 5)}, "both": {TPM: newTPM(t), SNP: newGuest(t, 1, 5), Index: vtpm.SealCounter + 1},
	} {
		key, kept, err := s.New(t.Context(), 2)
		if err != nil || len(key) != KeyBytes {
			t.Fatal(name, err)
		}
		for n := range uint16(2) {
			o, err := open(t, s, kept)
			if err != nil || !bytes.Equal(o.Key, key) || (s.TPM != nil) != (o.Number == n+1) || s.TPM == nil && o.Number != 0 {
				t.Fatalf("%s: %+v, %v", name, o, err)
			}
		}
		next, later, err := s.New(t.Context(), 2)
		if err != nil || bytes.Equal(next, key) {
			t.Errorf("%s: the next key is the same, %v", name, err)
		}
		_, err = open(t, s, kept)
		if s.TPM == nil {
			if err != nil {
				t.Error(err)
			}
			continue // nothing counts, which the package says
		}
		wantReason(t, err, vtpm.ReasonCount)
		if err := s.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = open(t, s, later)
		wantReason(t, err, vtpm.ReasonCount)
	}
}

// TestKeyOfAnotherGuest: what any device would do differently gives no key, or another.
func TestKeyOfAnotherGuest(t *testing.T) {
	tpm := newTPM(t)
	mine := &Sealer{TPM: tpm, SNP: newGuest(t, 1, 5)}
	key, kept, err := mine.New(t.Context(), vtpm.MaxOpens)
	if err != nil {
		t.Fatal(err)
	}
	o, err := open(t, &Sealer{TPM: tpm, SNP: newGuest(t, 2, 5)}, kept)
	if err != nil || bytes.Equal(o.Key, key) {
		t.Errorf("another image made the key: %v", err)
	}
	if o, err = open(t, &Sealer{TPM: tpm, SNP: newGuest(t, 1, 6)}, kept); err != nil || !bytes.Equal(o.Key, key) {
		t.Errorf("newer firmware does not make the key: %v", err)
	}
	_, err = open(t, &Sealer{TPM: tpm, SNP: newGuest(t, 1, 4)}, kept)
	wantReason(t, err, snp.ReasonOlderFirmware)
	_, err = open(t, &Sealer{TPM: newTPM(t), SNP: newGuest(t, 1, 5)}, kept)
	wantReason(t, err, vtpm.ReasonSealedElsewhere)
	for name, other := range map[string]*Sealer{"less": {TPM: tpm}, "the other": {SNP: newGuest(t, 1, 5)}, "another counter": {TPM: tpm, SNP: newGuest(t, 1, 5), Index: vtpm.SealCounter + 1}, "nothing": {}} {
		_, err = open(t, other, kept)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonOtherWay {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := (&Sealer{}).New(t.Context(), 1); err == nil {
		t.Error("a key that nothing seals")
	}
	// The rest of the handle counts, too: a salt of somebody else's makes another key.
	h, err := parse(kept)
	if err != nil {
		t.Fatal(err)
	}
	h.salt[0]++
	changed, err := h.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if o, err := open(t, mine, changed); err != nil || bytes.Equal(o.Key, key) {
		t.Errorf("another handle made the key: %v", err)
	}
}

// opened is what Open returns.
type opened struct {
	Key    []byte
	Number uint16
}

func open(t *testing.T, s *Sealer, kept []byte) (opened, error) {
	t.Helper()
	key, number, _, err := s.Open(t.Context(), kept)
	return opened{key, number}, err
}

// broken is a device that fails.
type broken struct{}

var errBroken = errors.New("broken")

func (broken) Seal(context.Context, uint32, uint16, []byte) (vtpm.Sealed, error) {
	return vtpm.Sealed{}, errBroken
}
func (broken) Open(context.Context, vtpm.Sealed) (vtpm.Opened, error) {
	return vtpm.Opened{}, errBroken
}
func (broken) Exhaust(context.Context, uint32) error          { return errBroken }
func (broken) CommittedTCB(context.Context) (uint64, error)   { return 0, errBroken }
func (broken) Derive(context.Context, uint64) ([]byte, error) { return nil, errBroken }

// TestDeviceThatFails gives no key, and costs no opening where the other one would have counted.
func TestDeviceThatFails(t *testing.T) {
	tpm := newTPM(t)
	good := &Sealer{TPM: tpm, SNP: newGuest(t, 1, 5)}
	for _, s := range []*Sealer{{TPM: broken{}}, {SNP: broken{}}, {TPM: tpm, SNP: broken{}}, {TPM: broken{}, SNP: newGuest(t, 1, 5)}} {
		if _, _, err := s.New(t.Context(), 1); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	_, kept, err := good.New(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Sealer{{TPM: tpm, SNP: broken{}}, {TPM: broken{}, SNP: good.SNP}} {
		if _, err := open(t, s, kept); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	if o, err := open(t, good, kept); err != nil || o.Number != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if err := (&Sealer{TPM: broken{}}).Forget(t.Context()); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if err := (&Sealer{SNP: broken{}}).Forget(t.Context()); err != nil {
		t.Error(err)
	}
}

func samples(tb testing.TB) [][]byte {
	var list [][]byte
	for ways := uint8(1); ways <= byTPM|bySNP; ways++ {
		kept, err := handle{ways: ways, tcb: 7, tpm: vtpm.Sealed{Index: vtpm.SealCounter, Last: 9, Opens: 2, Parent: []byte{1}, Private: []byte{2}, Public: []byte{3}}}.marshal()
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, kept)
	}
	return list
}

func TestMalformedHandles(t *testing.T) {
	for _, kept := range samples(t) {
		if _, err := parse(kept); err != nil {
			t.Error(err)
		}
		for n := range kept {
			_, err := parse(kept[:n])
			wantReason(t, err, ReasonHandle)
		}
		_, err := parse(append(kept, 0))
		wantReason(t, err, ReasonHandle)
		for _, ways := range []byte{0, 4} {
			bad := bytes.Clone(kept)
			bad[1+len(label)] = ways
			_, err := parse(bad)
			wantReason(t, err, ReasonHandle)
		}
	}
	_, err := parse(make([]byte, MaxHandleBytes+1))
	wantReason(t, err, ReasonHandle)
	if _, err := (handle{ways: byTPM, tpm: vtpm.Sealed{Public: make([]byte, MaxHandleBytes)}}).marshal(); err == nil {
		t.Error("a handle over the limit was written")
	}
}

func FuzzHandle(f *testing.F) {
	for _, kept := range samples(f) {
		f.Add(kept)
	}
	f.Fuzz(func(t *testing.T, kept []byte) {
		h, err := parse(kept)
		if err != nil {
			return
		}
		if again, err := h.marshal(); err != nil || !bytes.Equal(again, kept) {
			t.Errorf("%x is written as %x, %v", kept, again, err)
		}
	})
}
