package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// monitor speaks to QEMU: QMP, a JSON object a line.
type monitor struct {
	conn net.Conn
	in   *json.Decoder
}

func openMonitor(ctx context.Context, path string) (*monitor, error) {
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			m := &monitor{c, json.NewDecoder(bufio.NewReader(c))}
			return m, m.do("qmp_capabilities")
		}
		if perr := pause(ctx, 50*time.Millisecond); perr != nil {
			return nil, errors.Join(err, perr)
		}
	}
}

// do runs a command to its end.
func (m *monitor) do(command string) error {
	if err := m.conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"execute": command})
	if err != nil {
		return err
	}
	if _, err := m.conn.Write(append(text, '\n')); err != nil {
		return err
	}
	for {
		var r struct {
			Return *json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := m.in.Decode(&r); err != nil {
			return fmt.Errorf("QEMU's monitor, %s: %w", command, err)
		}
		if r.Error != nil {
			return fmt.Errorf("QEMU's monitor, %s: %s", command, r.Error.Desc)
		}
		if r.Return != nil {
			return nil
		} // else it greets, or tells of an event
	}
}

// auditedMemory is the guest's memory.
const auditedMemory = 1 << 30

// memoryOf is the file of a size that an emulator has its guest's memory in.
func memoryOf(pid int, size int64) (string, error) {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, lerr := os.Readlink(fd)
		info, serr := os.Stat(fd)
		if lerr == nil && serr == nil && strings.HasPrefix(to, "/memfd:memory-backend") && info.Size() == size {
			return fd, nil
		}
	}
	return "", errors.Join(fmt.Errorf("process %d has no file with a guest's memory", pid), err)
}

// searchMemory searches the guest's memory as it is at one moment: the machine stands still meanwhile.
func (x *auditor) searchMemory(t *tracer) error {
	if err := x.monitor.do("stop"); err != nil {
		return err
	}
	x.large.search(t, placeMemory, x.memory)
	return x.monitor.do("cont")
}

// large are files that change little between two looks: blocks in which nothing was found are searched again only
// after they changed.
type large struct {
	seed  maphash.Seed
	clean map[string][]uint64 // by path, of each block, or 0
}

const largeBlock = 64 << 10

// search searches a file. It passes over blocks that are as they were, with the bytes before them that a window could
// begin in.
func (l *large) search(t *tracer, place, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.found(place, path, nil, err)
		return
	}
	defer f.Close()
	known, now := l.clean[path], []uint64(nil)
	var hits []canary.Hit
	buf := make([]byte, canary.Window-1+largeBlock)
	for at := int64(0); ; at += largeBlock {
		from := max(0, at-(canary.Window-1))
		n, err := f.ReadAt(buf[:at-from+largeBlock], from)
		if err != nil && !errors.Is(err, io.EOF) {
			t.found(place, path, hits, err)
			return
		}
		if int64(n) <= at-from {
			break
		}
		sum := maphash.Bytes(l.seed, buf[:n])
		if i := len(now); i >= len(known) || known[i] != sum {
			block := t.SearchBytes(buf[:n])
			for _, h := range block {
				h.Offset += from
				hits = merge(hits, h)
			}
			if len(block) > 0 {
				sum = 0
			}
		}
		now = append(now, sum)
	}
	l.clean[path] = now
	t.found(place, filepath.Base(path), hits, nil)
}

// merge adds a hit, which may go on where one of the block before ended.
func merge(hits []canary.Hit, h canary.Hit) []canary.Hit {
	for i := range hits {
		if p := &hits[i]; p.Canary == h.Canary && p.Form == h.Form && h.Offset > p.Offset && h.Offset <= p.Offset+p.Length {
			p.Length = max(p.Length, h.Offset+h.Length-p.Offset)
			return hits
		}
	}
	return append(hits, h)
}

// look searches all that there is to see at a moment.
func (x *auditor) look(ctx context.Context, when string) error {
	began := time.Now()
	t := &tracer{Searcher: x.searcher}
	if x.guest != nil {
		if _, err := x.ask(order{Do: "run", Words: []string{"sync"}}); err != nil {
			return err
		}
		// Before the guest searches itself: what it reads would be in its memory.
		if err := x.searchMemory(t); err != nil {
			return err
		}
		if err := x.nameOwners(t.traces); err != nil {
			return err
		}
	}
	x.large.search(t, placeDisk, x.work.Path("disk.raw"))
	x.large.search(t, placeDisk, x.work.Path("data.raw"))
	t.files(placeTPM, x.work.Path("tpm"), time.Time{})
	t.file(placeSerial, x.work.Path("console.log"))
	t.file(placeSerial, x.work.Path("checks.log"))
	t.file(placeNetwork, x.work.Path("network.pcap"))
	x.lookAtBroker(t)
	host := time.Since(began)
	if x.guest != nil {
		r, err := x.ask(order{Do: "search"})
		if err != nil {
			return err
		}
		t.traces = append(t.traces, r.Traces...)
	}
	x.say("searched %s: host's side %.0f s, guest's %.0f s", when, host.Seconds(), (time.Since(began) - host).Seconds())
	x.traces[when] = t.traces
	return errors.Join(t.errs...)
}

func (x *auditor) lookAtBroker(t *tracer) {
	t.files(placeBrokerFiles, x.at("state"), time.Time{})
	t.files(placeBrokerFiles, x.at("aggregator"), time.Time{})
	t.file(placeBrokerLog, x.at("broker.log"))
	t.file(placeBrokerLog, x.at("aggregator.log"))
	for name, s := range map[string]*service{"broker": x.broker, "aggregator": x.aggregator} {
		if s != nil {
			t.process(placeBrokerMemory, placeBrokerStart, s.cmd.Process.Pid, name)
		}
	}
}

// nameOwners has the guest say whose the pages of its memory are in which something was found. It says so a moment
// after the dump, so that a page may have changed hands.
func (x *auditor) nameOwners(traces []trace) error {
	var pages []uint64
	for _, h := range traces {
		if page := uint64(h.Offset) / 4096; h.Place == placeMemory && !slices.Contains(pages, page) {
			pages = append(pages, page)
		}
	}
	if len(pages) == 0 {
		return nil
	}
	r, err := x.ask(order{Do: "pages", Pages: pages})
	for i := range traces {
		if traces[i].Place == placeMemory {
			traces[i].In = r.Pages[uint64(traces[i].Offset)/4096]
		}
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
