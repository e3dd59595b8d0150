package leases

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

func leaseNo(n int) (id digest.LeaseID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

// The log is asked once for each lease, whether it has it or not; again where it could not be
// asked or has no more than the record's hash; and what is remembered is bounded.
func TestTheLogIsAskedOnceForALease(t *testing.T) {
	var c chips
	asked := 0
	find := func(n int, sure bool, err error) func() (chipOf, bool, error) {
		return func() (chipOf, bool, error) {
			asked++
			return chipOf{chip: [32]byte{byte(n)}, here: n%2 == 0}, sure, err
		}
	}
	for range 3 {
		for n := range 10 {
			if got, err := c.of(leaseNo(n), find(n, true, nil)); err != nil || got.chip[0] != byte(n) || got.here != (n%2 == 0) {
				t.Fatalf("%+v, %v", got, err)
			}
		}
	}
	if asked != 10 {
		t.Errorf("asked %d times for 10 leases", asked)
	}
	asked = 0
	broken := errors.New("broken")
	for range 2 {
		if _, err := c.of(leaseNo(20), find(20, true, broken)); !errors.Is(err, broken) {
			t.Error(err)
		}
		if _, err := c.of(leaseNo(21), find(21, false, nil)); err != nil {
			t.Error(err)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times where nothing is sure", asked)
	}
	for n := range 5 * maxChips {
		if _, err := c.of(leaseNo(1000+n), find(n, true, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.newer) + len(c.before); n > 2*maxChips {
		t.Errorf("%d leases are remembered", n)
	}
}
