package aggregator

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func numbered(n int, perProcessor int) *upload {
	u := &upload{source: "s"}
	binary.BigEndian.PutUint64(u.digest[:], uint64(n))
	u.contribution.Agent = u.digest
	binary.BigEndian.PutUint64(u.processor[:], uint64(n/perProcessor))
	return u
}

func empty(t *testing.T, maximum, perGuest uint32) *round {
	return &round{dir: filepath.Join(t.TempDir(), "r"), def: federation.Round{Maximum: maximum, PerGuest: perGuest}, uploads: map[digest.Digest]*upload{}, agents: map[digest.Digest]digest.Digest{},
		processors: map[protocol.Processor]map[digest.Digest]*upload{}, waiting: map[digest.Digest]*upload{}}
}

// agree holds the indexes of a round against its uploads.
func agree(t *testing.T, r *round) {
	t.Helper()
	of, waiting := map[protocol.Processor]int{}, 0
	for d, u := range r.uploads {
		of[u.processor]++
		if r.agents[u.contribution.Agent] != d || r.processors[u.processor][d] != u {
			t.Fatalf("upload %s is not where it is looked for", d)
		}
		if !u.complete.Load() {
			waiting++
			if r.waiting[d] != u {
				t.Fatalf("upload %s does not wait", d)
			}
		}
	}
	if len(r.agents) != len(r.uploads) || len(r.processors) != len(of) || len(r.waiting) < waiting {
		t.Fatalf("%d agents, %d processors of %d, %d wait of %d", len(r.agents), len(r.processors), len(of), len(r.waiting), waiting)
	}
}

// A place is found without looking at those who have one: nothing is made for it, in a round
// of a thousand as in one of few; and the indexes follow what comes, ends and gives way.
func TestAPlaceIsFoundWithoutLookingAtAll(t *testing.T) {
	for _, size := range []int{64, 256, 1024} {
		r := empty(t, uint32(size)+1, 2)
		for n := range size {
			u := numbered(n, 2)
			if err := r.makeRoom(u); err != nil {
				t.Fatal(err)
			}
			r.gotOn(u)
			u.complete.Store(n%2 == 0)
			r.hold(u)
		}
		agree(t, r)
		newcomer := numbered(size+10, 2)
		if allocated := testing.AllocsPerRun(20, func() {
			if err := r.makeRoom(newcomer); err != nil {
				t.Fatal(err)
			}
		}); allocated > 0 {
			t.Errorf("%d uploads: %g allocations for a place", size, allocated)
		}
		// Of a full round those that wait give way, one by one, and then nobody.
		r.def.Maximum = uint32(size)
		for left := size / 2; left > 0; left-- {
			if err := r.makeRoom(newcomer); err != nil {
				t.Fatalf("%d wait: %v", left, err)
			}
			agree(t, r)
			done := numbered(2*size+left, 1)
			done.complete.Store(true)
			r.hold(done)
		}
		if reason, _ := refusal.ReasonOf(r.makeRoom(newcomer)); reason != ReasonFull || len(r.waiting) != 0 || len(r.uploads) != size {
			t.Errorf("%q, %d wait, %d uploads", reason, len(r.waiting), len(r.uploads))
		}
		// A processor's own give way to its newcomer, while one of them waits.
		own := numbered(0, 2)
		own.digest[31] = 1
		if reason, _ := refusal.ReasonOf(r.makeRoom(own)); reason != ReasonFull { // one of its two gave way above
			t.Errorf("%q", reason)
		}
	}
}
