package registry

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

func agent(n int) (id digest.Digest) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	return id
}

func gone(agent digest.Digest, n int) (list []ReceiptEntry) {
	for range n {
		list = append(list, ReceiptEntry{Receipt: Receipt{Agent: agent}})
	}
	return list
}

// TestAFloodIsNamed: the first sixteen agents of an hour were named, and a prover had one
// receipt each of sixteen other keys of its own displaced before it flooded.
func TestAFloodIsNamed(t *testing.T) {
	flood := agent(1 << 20)
	for name, tc := range map[string]struct {
		before, each, between int
		want                  string
	}{
		"alone":                        {0, 0, 0, "10000 of agent " + flood.String()},
		"behind sixteen":               {16, 1, 0, "10000 of agent " + flood.String()},
		"behind more than are counted": {2 * maxCounted, 1, 0, "10000 to 10002 of agent " + flood.String()},
		"between as many":              {maxCounted, 2, 2 * maxCounted, " of agent " + flood.String()},
	} {
		var d displaced
		total := 10_000 + tc.between
		for a := range tc.before {
			d.add(gone(agent(a), tc.each))
			total += tc.each
		}
		for i := range 10_000 {
			d.add(gone(flood, 1))
			if i < tc.between {
				d.add(gone(agent(10_000+i), 1))
			}
		}
		if text := d.String(); !strings.Contains(text, tc.want) || strings.Count(text, "of agent") > maxNamed {
			t.Errorf("%s: %q is not in %.300s", name, tc.want, text)
		}
		sum := 0
		for _, n := range d.of {
			sum += n.most
		}
		if len(d.of) > maxCounted || sum != total {
			t.Errorf("%s: %d counted of %d, by %d agents", name, sum, total, len(d.of))
		}
		if n := d.of[flood]; n.most < 10_000 || n.most-n.over > 10_000 {
			t.Errorf("%s: %+v", name, n)
		}
	}
}
