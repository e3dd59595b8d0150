package fed_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// line passes connections on to the aggregator while it is up, and then only so many
// bytes upwards.
type line struct {
	net.Listener
	target string
	carry  atomic.Int64
	stall  atomic.Bool // takes bytes and passes nothing on
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &line{Listener: l, target: target}
	p.carry.Store(1 << 40)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(down)
		}
	}()
	return p
}

func (p *line) pass(down net.Conn) {
	defer down.Close()
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { _, _ = io.Copy(down, up); _ = down.Close() }() // ends with either side
	buf := make([]byte, 4096)
	for {
		n, err := down.Read(buf)
		if err != nil || p.carry.Add(int64(-n)) < 0 {
			return
		}
		if p.stall.Load() {
			continue
		}
		if _, err := up.Write(buf[:n]); err != nil {
			return
		}
	}
}

// whenTried waits until a job was tried so often, and waits again or is dead.
func (g *guest) whenTried(t *testing.T, id jobs.ID, tries int) {
	t.Helper()
	limit := time.NewTimer(60 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := g.queue.Show(id)
		if err != nil {
			t.Fatal(err)
		}
		if (info.State == jobs.Queued || info.State == jobs.Dead) && info.Tries >= tries {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("job still %+v", info)
		}
	}
}

// An agent that ends between encryption and the end of its upload goes on, in another
// run, with the very bytes that it signed: nothing is encrypted twice for one round,
// and half an upload is in no sum.
func TestContributionGoesOnAfterARestart(t *testing.T) {
	for name, carry := range map[string]int64{"before the manifest arrived": 4000, "inside the first block": 60_000, "inside the second block": 170_000} {
		w := newWorld(t)
		direct := w.addr
		p := newLine(t, direct)
		w.addr = p.Addr().String()
		r, signed, seed := w.open(t, nil)
		dir, agent, key := t.TempDir(), w.Agent(t, nil), federationtest.Seed(t)
		g := w.guest(t, dir, agent, key, nil)
		if _, err := g.Round(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		p.carry.Store(carry)
		v := randomVector(1, length, 1)
		info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
		if err != nil {
			t.Fatal(err)
		}
		g.whenTried(t, info.ID, 1)
		g.stop()
		if list, err := w.agg.Complete(r.ID); err != nil || len(list) != 0 {
			t.Fatalf("%s: %d complete, %v", name, len(list), err)
		}
		before, err := os.ReadFile(filepath.Join(dir, "uploads", r.ID.String()+".manifest"))
		if err != nil {
			t.Fatal(err)
		}
		p.carry.Store(1 << 40)
		again := w.guest(t, dir, agent, key, nil)
		if info = again.wait(t, info.ID); info.State != jobs.Done || info.Tries < 2 {
			t.Fatalf("%s: %+v", name, info)
		}
		var done fed.Contributed
		if err := json.Unmarshal(info.Result, &done); err != nil {
			t.Fatal(err)
		}
		m, err := federation.ParseManifest(before)
		if err != nil {
			t.Fatal(err)
		}
		if done.Contribution != digest.Of(m.Signed) {
			t.Errorf("%s: another contribution was sent than the one that was signed first", name)
		}
		other := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
		second, err := other.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(v)))
		if err != nil {
			t.Fatal(err)
		}
		if second = other.wait(t, second.ID); second.State != jobs.Done {
			t.Fatalf("%+v", second)
		}
		w.close(t, r, signed)
		for i, x := range w.mean(t, r, seed) {
			if d := x - v[i]; d > 0.001 || d < -0.001 {
				t.Fatalf("%s: value %d is %g, want %g", name, i, x, v[i])
			}
		}
	}
}

// An aggregator that takes a connection and stands still costs a job its time, not
// the queue its life.
func TestAStalledAggregatorEndsTheTry(t *testing.T) {
	w := newWorld(t)
	p := newLine(t, w.addr)
	w.addr, w.limit = p.Addr().String(), time.Second
	r, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	if _, err := g.Round(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	p.stall.Store(true)
	info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(make([]float32, length))))
	if err != nil {
		t.Fatal(err)
	}
	g.whenTried(t, info.ID, 1)
	if info, err = g.queue.Show(info.ID); err != nil || info.Exit != jobs.TimeOut {
		t.Errorf("%+v, %v", info, err)
	}
}

// A stored upload that is not the recorded one is never sent.
func TestAChangedUploadIsNotSent(t *testing.T) {
	w := newWorld(t)
	p := newLine(t, w.addr)
	w.addr = p.Addr().String()
	r, _, _ := w.open(t, nil)
	dir, agent, key := t.TempDir(), w.Agent(t, nil), federationtest.Seed(t)
	g := w.guest(t, dir, agent, key, nil)
	if _, err := g.Round(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	p.carry.Store(4000)
	info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(make([]float32, length))))
	if err != nil {
		t.Fatal(err)
	}
	g.whenTried(t, info.ID, 1)
	g.stop()
	other, _ := agent.Contribute(t, r, []byte("another statement"), make([]int32, length))
	if err := os.WriteFile(filepath.Join(dir, "uploads", r.ID.String()+".manifest"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	p.carry.Store(1 << 40)
	g = w.guest(t, dir, agent, key, nil)
	if info = g.wait(t, info.ID); info.State != jobs.Dead || info.Reason != fed.ReasonContributed {
		t.Errorf("%+v", info)
	}
}
