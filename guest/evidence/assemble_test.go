package evidence

import (
	"bytes"
	"errors"
	"testing"
)

// TestWhatIsAssembledIsBound: the primary part is made over what covers the challenge and the
// other parts, in the envelope's order whatever the caller's, and over the challenge alone without any.
func TestWhatIsAssembledIsBound(t *testing.T) {
	challenge := [64]byte{1}
	log, gpu := Part{PartCCLog, []byte("log")}, Part{PartGPUReport, []byte("gpu")}
	for _, bound := range [][]Part{nil, {log}, {gpu, log}} {
		env, err := Assemble(KindTDX, challenge, bound, func(data [64]byte) (Signed, error) { return Signed{Primary: data[:]}, nil })
		if err != nil {
			t.Fatal(err)
		}
		want := env.ReportData(challenge)
		if !bytes.Equal(env.Primary(), want[:]) || len(env.Parts) != 1+len(bound) || (want == challenge) != (len(bound) == 0) {
			t.Errorf("%x is over %x, want %x", env.Parts, env.Primary(), want)
		}
	}
}

// TestPartsThatMayNotStandThereAreNotSignedOver: the device is not asked for evidence that
// nobody takes.
func TestPartsThatMayNotStandThereAreNotSignedOver(t *testing.T) {
	never := func([64]byte) (Signed, error) { t.Error("signed"); return Signed{}, nil }
	for kind, bound := range map[Kind]Part{KindSNP: {PartCCLog, []byte("log")}, KindTDX: {PartCCLog, make([]byte, MaxLogBytes+1)}, "": {PartGPUReport, []byte("gpu")}} {
		if _, err := Assemble(kind, [64]byte{}, []Part{bound}, never); err == nil {
			t.Errorf("%q takes a part %q of %d bytes", kind, bound.Type, len(bound.Data))
		}
	}
	broken := errors.New("broken")
	if _, err := Assemble(KindSNP, [64]byte{}, nil, func([64]byte) (Signed, error) { return Signed{}, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
