package keybroker

import (
	"encoding/binary"
	"testing"
	"time"
)

func TestAGuestsPaceIsBounded(t *testing.T) {
	p, now := newPace(4, time.Minute), time.Unix(1_700_000_000, 0)
	guest, other := [32]byte{1}, [32]byte{2}
	for i := range 4 {
		if !p.take(guest, 1, now) {
			t.Fatalf("decision %d of 4 was refused", i)
		}
	}
	if p.take(guest, 1, now) || p.take(guest, 1, now.Add(14*time.Second)) {
		t.Error("a fifth decision within its time")
	}
	if !p.take(other, 1, now) {
		t.Error("another guest pays for the first")
	}
	if !p.take(guest, 1, now.Add(16*time.Second)) || p.take(guest, 1, now.Add(16*time.Second)) {
		t.Error("one decision comes back in a quarter of the time, and no more")
	}
	if p.take(other, 4, now) || !p.take(other, 3, now) {
		t.Error("several keys at once count as many")
	}
	for range 4 {
		if !p.take(guest, 1, now.Add(time.Hour)) {
			t.Error("the allowance is not whole after an hour")
		}
	}
}

func TestPacedGuestsAreBounded(t *testing.T) {
	p, now := newPace(2, time.Minute), time.Unix(1_700_000_000, 0)
	for i := range uint32(maxPaced + 10) {
		var guest [32]byte
		binary.BigEndian.PutUint32(guest[:], i+1)
		if !p.take(guest, 1, now) {
			t.Fatal("a newcomer was refused")
		}
	}
	if len(p.guests) > maxPaced {
		t.Errorf("%d guests are remembered", len(p.guests))
	}
}
