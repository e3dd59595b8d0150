package snp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// tree is configfs-tsm in memory: an entry has a provider, a generation that
// counts writes, and a report made when it is first read after a write.
type tree struct {
	mu       sync.Mutex
	entries  map[string]*entry
	provider string
	aux      []byte
	noAux    bool
	vlek     bool
	mkdirErr error
	// before is asked before every step, and may fail it. It has the lock.
	before func(step, name string) error
	// answer changes a report before it is returned.
	answer func(report []byte) []byte
	inUse  int // entries with a report in the making
	most   int // of them at any time
}

type entry struct {
	generation uint64
	inblob     []byte
}

func newTree() *tree { return &tree{entries: map[string]*entry{}, provider: "sev_guest"} }

func (t *tree) step(step, name string) (*entry, string, error) {
	if t.before != nil {
		if err := t.before(step, name); err != nil {
			return nil, "", &fs.PathError{Op: step, Path: name, Err: err}
		}
	}
	e := t.entries[path.Dir(name)]
	if e == nil {
		return nil, "", &fs.PathError{Op: step, Path: name, Err: fs.ErrNotExist}
	}
	return e, path.Base(name), nil
}

func (t *tree) Mkdir(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mkdirErr != nil {
		return t.mkdirErr
	}
	if t.entries[name] != nil {
		return fs.ErrExist
	}
	t.entries[name] = &entry{}
	return nil
}

func (t *tree) Remove(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[name]
	if e == nil {
		return fs.ErrNotExist
	}
	if t.before != nil {
		if err := t.before("remove", name); err != nil {
			return err
		}
	}
	if e.inblob != nil {
		t.inUse--
	}
	delete(t.entries, name)
	return nil
}

func (t *tree) Write(name string, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, file, err := t.step("write", name)
	if err != nil {
		return err
	}
	if file != "inblob" || len(data) != 64 {
		return unix.EINVAL
	}
	if e.inblob == nil {
		t.inUse++
		t.most = max(t.most, t.inUse)
	}
	e.generation, e.inblob = e.generation+1, append([]byte(nil), data...)
	return nil
}

func (t *tree) Read(name string, limit int64) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, file, err := t.step("read", name)
	if err != nil {
		return nil, err
	}
	var data []byte
	switch file {
	case "provider":
		data = []byte(t.provider + "\n")
	case "generation":
		data = fmt.Appendf(nil, "%d\n", e.generation)
	case "outblob":
		if e.inblob == nil {
			return nil, unix.EINVAL
		}
		data = make([]byte, 1184)
		binary.LittleEndian.PutUint32(data, 3)
		copy(data[0x50:], e.inblob)
		if t.vlek {
			data[0x48] = 1 << 2
		}
		if t.answer != nil {
			data = t.answer(data)
		}
	case "auxblob":
		if t.noAux {
			return nil, fs.ErrNotExist
		}
		data = t.aux
	default:
		return nil, fs.ErrNotExist
	}
	return data[:min(int64(len(data)), limit)], nil
}

// realTable is a host's certificate table from a real machine.
func realTable(tb testing.TB) []byte {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	candidates := []string{os.Getenv("ANCHORHOLD_SHARED")}
	for ; dir != path.Dir(dir); dir = path.Dir(dir) {
		candidates = append(candidates, dir+"/shared")
	}
	for _, c := range candidates {
		if data, err := os.ReadFile(c + "/evidence/snp/11-genoa-v3-tsm-veraison/auxblob.bin"); c != "" && err == nil {
			return data
		}
	}
	tb.Skip("no real certificate table beside the checkout; set ANCHORHOLD_SHARED to have this test run")
	return nil
}

// table builds a certificate table from GUIDs and contents.
func table(entries ...string) []byte {
	head := make([]byte, (len(entries)/2+1)*entrySize)
	var body []byte
	for i := 0; i < len(entries); i += 2 {
		e := head[i/2*entrySize:]
		copy(e, rawGUID(entries[i]))
		binary.LittleEndian.PutUint32(e[16:], uint32(len(head)+len(body)))
		binary.LittleEndian.PutUint32(e[20:], uint32(len(entries[i+1])))
		body = append(body, entries[i+1]...)
	}
	return append(head, body...)
}

// rawGUID is the inverse of printed, written on its own.
func rawGUID(s string) []byte {
	out, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil {
		panic(err)
	}
	return out
}
