package protocol

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// fuzzMessage checks the one property that all parsers share: what parses
// encodes to the same bytes again, and nothing panics.
func fuzzMessage(f *testing.F, typ Type) {
	for _, frame := range goldenFrames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m := blank(typ)
		if err := Parse(frame, m); err != nil {
			return
		}
		again, err := Marshal(m)
		if err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("parsed, but encodes differently: %v", err)
		}
		got, whole, err := ReadFrame(bytes.NewReader(frame), typ)
		if err != nil || got != typ || !bytes.Equal(whole, frame) {
			t.Fatalf("parsed, but does not read: %v", err)
		}
	})
}

func FuzzHello(f *testing.F)         { fuzzMessage(f, TypeHello) }
func FuzzChallenge(f *testing.F)     { fuzzMessage(f, TypeChallenge) }
func FuzzAttest(f *testing.F)        { fuzzMessage(f, TypeAttest) }
func FuzzGrant(f *testing.F)         { fuzzMessage(f, TypeGrant) }
func FuzzRequest(f *testing.F)       { fuzzMessage(f, TypeRequest) }
func FuzzRelease(f *testing.F)       { fuzzMessage(f, TypeRelease) }
func FuzzReceipt(f *testing.F)       { fuzzMessage(f, TypeReceipt) }
func FuzzPermitRequest(f *testing.F) { fuzzMessage(f, TypePermitRequest) }
func FuzzPermitAnswer(f *testing.F)  { fuzzMessage(f, TypePermitAnswer) }
func FuzzRefusal(f *testing.F)       { fuzzMessage(f, TypeRefusal) }

func FuzzReadFrame(f *testing.F) {
	for _, frame := range goldenFrames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		typ, frame, err := ReadFrame(r, TypeHello, TypeChallenge, TypeAttest, TypeGrant, TypeRequest, TypeRelease, TypeReceipt, TypePermitRequest, TypePermitAnswer, TypeRefusal)
		if err == nil && (len(frame) > typ.MaxFrame() || !bytes.Equal(frame, b[:len(frame)])) {
			t.Fatalf("%s: wrong frame of %d bytes", typ, len(frame))
		}
	})
}

func FuzzEpochStatement(f *testing.F) {
	v := golden(f)
	f.Add([]byte(v.Epoch))
	f.Fuzz(func(t *testing.T, b []byte) {
		var st EpochStatement
		msg, sig, err := parseSigned(b, maxSignedEpochBytes, &st)
		if err != nil {
			return
		}
		checkStatement(t, &st, b, msg, sig)
	})
}

func FuzzEpochRequest(f *testing.F) {
	f.Add(signRequest(f, newParties(f), func(*EpochRequest) {}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r EpochRequest
		msg, sig, err := parseSigned(b, maxSignedEpochRequestBytes, &r)
		if err != nil {
			return
		}
		checkStatement(t, &r, b, msg, sig)
	})
}

func FuzzLeaseCertificate(f *testing.F) {
	v := golden(f)
	f.Add([]byte(v.Lease))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c LeaseCertificate
		msg, sig, err := parseSigned(b, maxSignedLeaseBytes, &c)
		if err != nil {
			return
		}
		checkStatement(t, &c, b, msg, sig)
	})
}

// checkStatement takes the body out of the signed message and assembles the
// statement again.
func checkStatement(t *testing.T, st statement, b, msg, sig []byte) {
	body := msg[4+len(st.label())+4:]
	again, err := assemble(st.label(), body, sig)
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("parsed, but encodes differently: %v", err)
	}
}

func FuzzLeaseChain(f *testing.F) {
	v := golden(f)
	f.Add([]byte(v.Chain))
	f.Add([]byte(readVectors(f, filepath.Join("testdata", "exchange-1.json")).Chain))
	root, err := identity.ParsePublic(v.Root)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := everyone(b, root); err == nil && !bytes.Equal(b, v.Chain) {
			t.Fatal("another chain than the golden one verifies")
		}
	})
}
