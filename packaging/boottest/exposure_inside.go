package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// order is what the host asks of the guest, a JSON object a line.
type order struct {
	Do    string        `json:"do"`              // run, start, alive, stop, ready, ended, index, search, pages
	Words []string      `json:"words,omitempty"` // of a command
	Index *canary.Index `json:"index,omitempty"`
	Pages []uint64      `json:"pages,omitempty"` // numbers of pages
}

// report is what the guest answers.
type report struct {
	Error  string            `json:"error,omitempty"`
	Output string            `json:"output,omitempty"`
	Traces []trace           `json:"traces,omitempty"`
	Pages  map[uint64]string `json:"pages,omitempty"` // whose they are
}

// audited is the guest while its host audits it.
type audited struct {
	began    time.Time
	searcher *canary.Searcher
	started  map[string]*exec.Cmd
}

// takeOrders connects to the host and does what it says until it closes the connection.
func takeOrders(address string) error {
	var c net.Conn
	if err := await(3*time.Minute, "the host", func() (ok bool, err error) {
		c, err = net.DialTimeout("tcp", address, 5*time.Second)
		return err == nil, err
	}); err != nil {
		return err
	}
	defer c.Close()
	g := &audited{began: time.Now(), started: map[string]*exec.Cmd{}}
	in, out := json.NewDecoder(c), json.NewEncoder(c)
	if err := out.Encode(report{Output: "here"}); err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := g.do(o)
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

func (g *audited) do(o order) (r report, err error) {
	switch o.Do {
	case "run":
		r.Output, err = runFor(3*time.Minute, o.Words...)
	case "start":
		r.Output, err = g.start(o.Words)
	case "stop":
		err = g.stop(o.Words[0])
	case "alive":
		err = g.alive(o.Words[0])
	case "ready":
		err = await(90*time.Second, "the model", status(agentStatus.serves))
	case "ended":
		err = await(3*time.Minute, "the lease's end", status(agentStatus.quiet))
	case "index":
		g.searcher, err = canary.NewSearcher(o.Index)
	case "search":
		r.Traces, err = g.search()
	case "pages":
		r.Pages, err = owners(o.Pages)
	default:
		err = fmt.Errorf("there is no order %q", o.Do)
	}
	return r, err
}

// agentStatus is what the audit reads of the agent's status.
type agentStatus struct {
	State       string           `json:"state"`
	Model       *json.RawMessage `json:"model"`
	LastRefusal *json.RawMessage `json:"last_refusal"`
}

// serves says whether the agent has a lease and serves its model.
func (s agentStatus) serves() bool { return s.State == "serving" && s.Model != nil }

// quiet says whether the lease is over, and the broker has refused another: until then one that it granted at the last
// moment may be on its way.
func (s agentStatus) quiet() bool { return s.State == "lease-expired" && s.LastRefusal != nil }

// status asks whether the agent's status is so.
func status(so func(agentStatus) bool) func() (bool, error) {
	return func() (bool, error) {
		r, err := ask(http.MethodGet, "/v1/status", nil, 20*time.Second)
		if err != nil {
			return false, err
		}
		var s agentStatus
		if err := json.Unmarshal(r.Body, &s); err != nil {
			return false, err
		}
		return so(s), fmt.Errorf("%d %s", r.Status, r.Body)
	}
}

// start runs this program in another role beside the audit, and returns its first line.
func (g *audited) start(words []string) (string, error) {
	cmd := exec.Command("/proc/self/exe", words[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	g.started[words[0]] = cmd
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := out.Read(b); err != nil {
			return "", fmt.Errorf("%v ended: %w", words, errors.Join(err, cmd.Wait()))
		}
		if b[0] == '\n' {
			return string(line), nil
		}
	}
}

// alive says of a process that was started whether it still runs.
func (g *audited) alive(name string) error {
	cmd := g.started[name]
	if cmd == nil {
		return fmt.Errorf("%s was not started", name)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if _, state, _ := strings.Cut(string(stat), ") "); err != nil || strings.HasPrefix(state, "Z") {
		return errors.Join(fmt.Errorf("%s has ended", name), err)
	}
	return nil
}

func (g *audited) stop(name string) error {
	cmd := g.started[name]
	if cmd == nil {
		return fmt.Errorf("%s was not started", name)
	}
	delete(g.started, name)
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // it was killed
	return nil
}

const (
	coresDir = "/var/lib/cores"
	swapFile = "/swapfile"
)

// search looks everywhere that root in the guest can.
func (g *audited) search() ([]trace, error) {
	if g.searcher == nil {
		return nil, errors.New("no index was sent")
	}
	defer g.searcher.Wipe()
	t := &tracer{Searcher: g.searcher}
	if err := g.searchProcesses(t); err != nil {
		return nil, err
	}
	t.file(placeSwap, swapFile)
	t.files(placeCores, coresDir, time.Time{})
	skip := []string{"/var/lib/cores", "/var/log/journal", "/run/log/journal"}
	for _, dir := range []string{"/run", "/tmp", "/var/tmp", "/dev/shm"} {
		t.files(placeFiles, dir, time.Time{}, skip...)
	}
	for _, dir := range []string{"/etc", "/home", "/opt", "/root", "/srv", "/var"} {
		t.files(placeFiles, dir, g.began.Add(-time.Minute), append(skip, "/var/tmp", halvesDir)...)
	}
	t.journal()
	t.keyring()
	return t.traces, errors.Join(t.errs...)
}

// searchProcesses searches every process but this one, and files that only a process sees.
func (g *audited) searchProcesses(t *tracer) error {
	pids, err := processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if pid == os.Getpid() {
			continue
		}
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // none of one that ended
		text := strings.TrimSpace(string(name)) + fmt.Sprintf(" (%d)", pid)
		place := g.owner(pid)
		t.process(place, placeStart, pid, text)
		if place == placeAgent || place == placeWorkers {
			for _, dir := range []string{"tmp", "var/tmp", "dev/shm"} {
				t.files(placeFiles, fmt.Sprintf("/proc/%d/root/%s", pid, dir), time.Time{})
			}
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			if err == nil && strings.HasSuffix(to, " (deleted)") && !strings.Contains(to, "secretmem") {
				t.file(placeFiles, fd)
			}
		}
	}
	return nil
}

// owner is the place that a process's memory counts as.
func (g *audited) owner(pid int) string {
	group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // none of one that ended
	switch {
	case strings.Contains(string(group), "/"+agentUnit):
		return placeAgent
	case strings.Contains(string(group), "anchorhold-worker@"):
		return placeWorkers
	}
	for name, cmd := range g.started {
		if cmd.Process.Pid == pid {
			if name == "client" {
				return placeClient
			}
			return placeOthers
		}
	}
	return placeOthers
}

func (t *tracer) journal() {
	cmd := exec.Command("sh", "-c", "journalctl --sync; exec journalctl -b -o export --no-pager")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.found(placeJournal, "journal", nil, err)
		return
	}
	hits, err := t.Search(out)
	t.found(placeJournal, "journal", hits, errors.Join(err, cmd.Wait()))
}

// keyring searches the keys of the kernel that root can see.
func (t *tracer) keyring() {
	list, err := os.ReadFile("/proc/keys")
	if err != nil {
		t.found(placeKeyring, "/proc/keys", nil, err)
		return
	}
	hits, err := t.Search(bytes.NewReader(list))
	t.found(placeKeyring, "/proc/keys", hits, err)
	for line := range strings.Lines(string(list)) {
		var id int
		if _, err := fmt.Sscanf(line, "%x", &id); err != nil || !strings.Contains(line, " user ") {
			continue
		}
		payload := make([]byte, 4096)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, payload, 0)
		if err != nil {
			continue // its owner's alone
		}
		hits, err := t.Search(bytes.NewReader(payload[:min(n, len(payload))]))
		t.found(placeKeyring, strings.TrimSpace(line), hits, err)
	}
}

// owners says whose pages of memory are, by their numbers: a page of a process, of a file, of the kernel, or free.
func owners(pages []uint64) (map[uint64]string, error) {
	whose := map[uint64]string{}
	flags, err := os.Open("/proc/kpageflags")
	if err != nil {
		return nil, err
	}
	defer flags.Close()
	for _, page := range pages {
		var word [8]byte
		if _, err := flags.ReadAt(word[:], int64(page*8)); err != nil {
			return nil, err
		}
		whose[page] = kindOfPage(binary.LittleEndian.Uint64(word[:]))
	}
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		ownedBy(pid, whose)
	}
	return whose, nil
}

// Flags of /proc/kpageflags (linux/kernel-page-flags.h).
func kindOfPage(flags uint64) string {
	for _, k := range []struct {
		bit  uint
		name string
	}{{10, "free"}, {7, "kernel object"}, {26, "page table"}, {12, "anonymous"}, {14, "file, swap-backed"}, {11, "mapped file"}, {5, "file"}, {3, "file"}} {
		if flags>>k.bit&1 == 1 {
			return k.name
		}
	}
	return fmt.Sprintf("kernel or free (flags %#x)", flags)
}

// ownedBy adds a process to the pages that it maps.
func ownedBy(pid int, whose map[uint64]string) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return
	}
	table, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return
	}
	defer table.Close()
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // none of one that ended
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil || to-from > 1<<32 {
			continue
		}
		entries := make([]byte, (to-from)/4096*8)
		n, _ := table.ReadAt(entries, int64(from/4096*8)) // what there is
		for e := range slices.Chunk(entries[:n/8*8], 8) {
			word := binary.LittleEndian.Uint64(e)
			page := word & (1<<55 - 1)
			if kind, ok := whose[page]; ok && word>>63 == 1 && !strings.Contains(kind, string(bytes.TrimSpace(name))) {
				region := strings.Join(strings.Fields(line)[5:], " ")
				whose[page] = strings.TrimSpace(kind + " of " + string(bytes.TrimSpace(name)) + " " + region)
			}
		}
	}
}

// relay connects standard input and output with an address: QEMU starts one for each connection of the guest.
func relay(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin) // ends with either side
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, c)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return err
}
