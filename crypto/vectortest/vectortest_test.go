package vectortest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// stub collects failures instead of reporting them.
type stub struct {
	testing.TB
	failures int
}

func (s *stub) Helper()               {}
func (s *stub) Error(...any)          { s.failures++ }
func (s *stub) Errorf(string, ...any) { s.failures++ }

func sample() Vector {
	v := Vector{Fields: json.RawMessage(`{ "a": 1 }`), Signed: Hex{1}, Statement: bytes.Repeat([]byte{7}, 200), MinEpoch: 1, Verdict: Accepted}
	v.Damage(3, "malformed", "signature")
	v.Refused = append(v.Refused, Refused{About: "a retired epoch", MinEpoch: 2, Reason: "retired"}, Refused{About: "another", Statement: Hex{1}, Reason: "malformed"})
	return v
}

// strict accepts the sample alone.
func strict(statement []byte, minEpoch uint64) error {
	switch {
	case len(statement) != 200:
		return refusal.New("malformed", "length")
	case !bytes.Equal(statement, bytes.Repeat([]byte{7}, 200)):
		return refusal.New("signature", "bytes")
	case minEpoch > 1:
		return refusal.New("retired", "epoch")
	}
	return nil
}

func TestVerifiersThatAreWrongFail(t *testing.T) {
	v := sample()
	for name, tc := range map[string]struct {
		verify func([]byte, uint64) error
		want   int
	}{
		"right":             {strict, 0},
		"accepts all":       {func([]byte, uint64) error { return nil }, len(v.Refused)},
		"ignores the epoch": {func(s []byte, _ uint64) error { return strict(s, 1) }, 1},
		"refuses all":       {func([]byte, uint64) error { return refusal.New("other", "all") }, len(v.Refused) + 1},
	} {
		s := &stub{TB: t}
		if v.Verify(s, tc.verify); s.failures != tc.want {
			t.Errorf("%s: %d failures, want %d", name, s.failures, tc.want)
		}
	}
	s := &stub{TB: t}
	if v.Rebuilt(s, []byte{1}, v.Statement); s.failures != 0 {
		t.Error("equal bytes differ")
	}
	if v.Rebuilt(s, []byte{2}, []byte{3}); s.failures != 2 {
		t.Error("other bytes are equal")
	}
}

func TestVectorsAreNeverReplaced(t *testing.T) {
	t.Chdir(t.TempDir())
	first := Load(t, "v", true, sample)
	again := Load(t, "v", true, func() Vector { t.Fatal("created anew"); return Vector{} })
	if string(first.Compact(t)) != `{"a":1}` || !bytes.Equal(encode(t, first), encode(t, again)) {
		t.Errorf("got %+v, want %+v", again, first)
	}
}
