package aggregator

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// drip is a body that brings so many bytes after each wait.
type drip struct {
	bytes int
	wait  time.Duration
}

// Read waits.
func (d drip) Read(b []byte) (int, error) {
	<-time.After(d.wait)
	return min(len(b), d.bytes), nil
}

// reads reads so often from a body, and returns why it ended.
func reads(p *patient, times int) error {
	b := make([]byte, 1<<20)
	for range times {
		if _, err := p.Read(b); err != nil {
			return err
		}
	}
	return nil
}

// TestBodyThatCreepsEnds: a byte just before each deadline kept a place, and what had come
// on the disk, for as long as a round ran.
func TestBodyThatCreepsEnds(t *testing.T) {
	const idle = 30 * time.Second
	for name, c := range map[string]struct {
		body  drip
		reads int
		slow  bool
	}{
		"a byte each time":      {drip{1, idle - time.Second}, 3, true},
		"just begun":            {drip{1, idle - time.Second}, 2, false},
		"a little less":         {drip{10*leastRate - 1, 10 * time.Second}, 6, true},
		"enough, for long":      {drip{10 * leastRate, 10 * time.Second}, 1000, false},
		"nothing to wait for":   {drip{1, 0}, 1000, false},
		"one large, then never": {drip{1, idle - time.Second}, 6, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &patient{r: c.body, idle: idle}
			if name == "one large, then never" {
				p.now.came = 1 << 30
			}
			err := reads(p, c.reads)
			if reason, _ := refusal.ReasonOf(err); (reason == ReasonSlow) != c.slow || !c.slow && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestOurOwnTimeIsNotThePeers: what the disk takes does not make a body slow.
func TestOurOwnTimeIsNotThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &patient{r: drip{leastRate, time.Second / 2}, idle: time.Second}
		for range 10 {
			if err := reads(p, 1); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Minute)
		}
	})
}

// TestPlacesOfUploads: a newcomer takes that of an upload that creeps, or of the slowest of
// a source that has more than it would have, and no other.
func TestPlacesOfUploads(t *testing.T) {
	fast, creeping, slow := pace{time.Minute, 1 << 30}, pace{time.Minute, 100}, pace{time.Minute, 1 << 20}
	type upload struct {
		source string
		pace   pace
	}
	for name, c := range map[string]struct {
		held     []upload
		newcomer string
		victim   int // -1: nobody
	}{
		"free":                            {[]upload{{"a", creeping}}, "b", -1},
		"creeping, of the same":           {[]upload{{"a", fast}, {"a", creeping}}, "a", 1},
		"the slowest that creeps":         {[]upload{{"a", pace{time.Minute, 200}}, {"b", creeping}}, "c", 1},
		"of whoever has most":             {[]upload{{"a", fast}, {"a", slow}}, "b", 1},
		"not for an even share":           {[]upload{{"a", fast}, {"b", slow}}, "c", -1},
		"not of the newcomer's own":       {[]upload{{"a", fast}, {"a", slow}}, "a", -1},
		"not of who has just begun":       {[]upload{{"a", pace{time.Second, 1}}, {"b", fast}}, "c", -1},
		"but of who has two, just begun":  {[]upload{{"a", pace{time.Second, 1}}, {"a", fast}}, "c", 0},
		"of most, though another is slow": {[]upload{{"a", fast}, {"b", slow}, {"a", pace{time.Minute, 1 << 29}}}, "c", 2},
	} {
		p := places{most: len(c.held), held: map[*patient]bool{}}
		if name == "free" {
			p.most++
		}
		var list []*patient
		for _, u := range c.held {
			h := &patient{source: u.source, idle: 30 * time.Second, now: u.pace}
			if err := p.enter(h); err != nil {
				t.Fatal(err)
			}
			list = append(list, h)
		}
		newcomer := &patient{r: drip{1, 0}, source: c.newcomer, idle: 30 * time.Second}
		err := p.enter(newcomer)
		if reason, _ := refusal.ReasonOf(err); c.victim < 0 && name != "free" && reason != ReasonBusy || (c.victim >= 0 || name == "free") && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, h := range list {
			gone := h.gaveWay && !p.held[h]
			if gone != (i == c.victim) {
				t.Errorf("%s: upload %d gave way: %v", name, i, gone)
			}
		}
		p.leave(newcomer)
		if p.held[newcomer] {
			t.Errorf("%s: still there", name)
		}
	}
}

// TestUploadThatGaveWayIsNotReadOn: neither a read that goes on nor the next one.
func TestUploadThatGaveWayIsNotReadOn(t *testing.T) {
	r, w := io.Pipe()
	p := &patient{r: r, idle: time.Minute}
	done := make(chan error, 1)
	go func() {
		_, err := p.Read(make([]byte, 2))
		done <- err
	}()
	if _, err := w.Write([]byte{1}); err != nil || <-done != nil {
		t.Fatal(err)
	}
	p.giveWay()
	if reason, _ := refusal.ReasonOf(reads(p, 1)); reason != ReasonBusy {
		t.Errorf("reason %q", reason)
	}
}
