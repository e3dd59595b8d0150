package workapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
)

// TestAPartsHeaderIsShort: each connection could hold ten megabytes of headers, in no budget.
func TestAPartsHeaderIsShort(t *testing.T) {
	const limit, ahead = 1 << 10, 512
	media, whole := form(t, asked, vector)
	vectors := strings.LastIndex(whole, "Content-Disposition")
	for name, c := range map[string]struct {
		at    int // where it is put in
		put   string
		fails string // the step; none if it is accepted
	}{
		"a client's own fields":      {vectors, "Content-Length: 16\r\nX-Name: " + strings.Repeat("x", 512) + "\r\n", ""},
		"a long line":                {strings.Index(whole, "Content-Disposition"), "A: " + strings.Repeat("b", limit) + "\r\n", "inference"},
		"short lines":                {strings.Index(whole, "Content-Disposition"), strings.Repeat("a:\r\n", limit/4), "inference"},
		"lines before the parts":     {0, strings.Repeat("x\r\n", limit/3), "inference"},
		"before the second part too": {vectors, strings.Repeat("a:\r\n", (limit+ahead)/4), "gradient"},
	} {
		b := newBench(t)
		status, _, raw := b.do(7, "POST", path+"/updates?model=tiny", media, whole[:c.at]+c.put+whole[c.at:])
		if want := "update-" + c.fails + "-failed vector-invalid"; c.fails == "" && status != http.StatusAccepted || c.fails != "" && (!strings.Contains(raw, want) || !strings.Contains(raw, "header is longer")) {
			t.Errorf("%s: %d %s, want %s", name, status, raw, want)
		}
	}
}

// dead makes a user's jobs from one number up to another, that failed and have much to say
// about it.
func (b *bench) dead(from, to int, uid uint32) {
	b.t.Helper()
	for i := from; i < to; i++ {
		_, _, err := b.queue.Submit(b.t.Context(), jobs.Job{Class: fedtask.ClassContribute, Owner: uid, Spec: fmt.Append(nil, i), Memory: 1 << 20, TimeMax: time.Minute})
		if err != nil {
			b.t.Fatal(err)
		}
		l, err := b.queue.Lease(b.t.Context(), []string{fedtask.ClassContribute})
		if err != nil {
			b.t.Fatal(err)
		}
		if err := l.Fail(jobs.Refused, "already-contributed", strings.Repeat("x", 1<<10)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// unread is a response that nobody reads.
type unread struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (u unread) Write(p []byte) (int, error)       { return u.conn.Write(p) }
func (u unread) WriteString(s string) (int, error) { return io.WriteString(u.conn, s) }

// TestAListOfJobsIsNotHeld: each connection that did not read held a copy of the whole list.
func TestAListOfJobsIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, readers = 256, 40 // a list of 350 KiB
		b := newBench(t)
		b.dead(0, n, 7)
		heap := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := heap()
		var conns []net.Conn
		var served sync.WaitGroup
		for range readers {
			near, far := net.Pipe()
			conns = append(conns, far)
			q := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/jobs", nil)
			q.Header.Set("uid", "7")
			served.Go(func() { b.mux.ServeHTTP(unread{httptest.NewRecorder(), near}, q); near.Close() })
		}
		synctest.Wait()
		if held := heap() - before; held > 3<<19 {
			t.Errorf("%d unread lists hold %d KiB", readers, held>>10)
		}
		for i, c := range conns {
			if i > 0 {
				c.Close()
				continue
			}
			var list struct{ Data []struct{ Seq uint64 } }
			if err := json.NewDecoder(c).Decode(&list); err != nil || len(list.Data) != n {
				t.Errorf("%d jobs: %v", len(list.Data), err)
			}
			for k := 1; k < len(list.Data); k++ {
				if list.Data[k].Seq >= list.Data[k-1].Seq {
					t.Fatalf("job %d comes after %d", list.Data[k].Seq, list.Data[k-1].Seq)
				}
			}
		}
		served.Wait()
	})
}

// TestAListOfJobsIsWhole, whatever their number is: it is read in pieces of sixteen.
func TestAListOfJobsIsWhole(t *testing.T) {
	b := newBench(t)
	made := 0
	for _, n := range []int{0, 1, 15, 16, 17, 32, 33} {
		b.dead(made, n, 7)
		made = n
		_, answer, raw := b.do(7, "GET", "/v1/jobs", "", "")
		if data, ok := answer["data"].([]any); !ok || len(data) != n || answer["object"] != "list" {
			t.Errorf("%d jobs: %.100s", n, raw)
		}
	}
}
