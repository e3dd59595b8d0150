package localapi_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
)

// watchedWriter says what a request still holds when its answer is written, and until when
// its client may read it.
type watchedWriter struct {
	*httptest.ResponseRecorder
	server   *localapi.Server
	deadline time.Time
	bytes    int64         // held at the largest moment of writing
	running  int           // in either line
	left     time.Duration // to the deadline, of the first write
	writes   int
}

func (w *watchedWriter) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }
func (w *watchedWriter) SetReadDeadline(time.Time) error    { return nil }

func (w *watchedWriter) Write(p []byte) (int, error) {
	answers, _ := w.server.Intake().Line.Load()
	quotes, _ := w.server.Quotes().Load()
	w.running, w.bytes = max(w.running, answers, quotes), max(w.bytes, w.server.Intake().Budget.Used())
	if w.writes++; w.writes == 1 && !w.deadline.IsZero() {
		w.left = time.Until(w.deadline)
	}
	return w.ResponseRecorder.Write(p)
}

// TestWholeAnswersAreWrittenOutsideTheLine: a client that does not read held a place in the
// line, and all the memory of its request.
func TestWholeAnswersAreWrittenOutsideTheLine(t *testing.T) {
	f := start(t, func(c *setup) {
		c.Memory = 16 << 20
		c.Classifiers = &oip.Service{Classifiers: wideClassifier{}, Proofs: func() (oip.Proofs, error) { return nil, errors.New("none") }}
	})
	row := "[" + strings.Repeat("0,", wide-1) + "0]"
	padded := strings.Repeat(" ", 200<<10)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"one two"}]}` + padded, 200},
		{"POST", "/v1/completions", `{"model":"tiny","prompt":"x"}` + padded, 200},
		{"POST", "/v2/models/wide/infer", fmt.Sprintf(`{"inputs":[{"name":"input","datatype":"INT8","shape":[%d],"data":%s}]}`, wide, row), 200},
		{"GET", "/v1/attestation?nonce=" + strings.Repeat("ab", 16), "", 200},
		{"GET", "/v1/models", "", 200},
		{"GET", "/metrics", "", 200},
		{"GET", "/v1/receipts/none", "", 404},
		{"POST", "/v1/completions", "{" + padded, 400},
	} {
		w := &watchedWriter{ResponseRecorder: httptest.NewRecorder(), server: f.server}
		ctx := localapi.AsUser(t.Context(), uint32(os.Getuid()))
		f.server.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.status || w.writes != 1 {
			t.Fatalf("%s: %d in %d writes: %s", c.path, w.Code, w.writes, w.Body)
		}
		if most := int64(w.Body.Len()) + localapi.Overhead; w.running != 0 || w.bytes > most {
			t.Errorf("%s: while it is written, %d places and %d bytes are held; %d are the answer", c.path, w.running, w.bytes, most)
		}
		if most := f.server.Settings().WriteTime + time.Second; w.left <= 0 || w.left > most {
			t.Errorf("%s: its client has %s to read", c.path, w.left)
		}
	}
}

// TestSlowReaderOfWholeAnswersIsCutOff: a client sends requests one behind the other and
// reads nothing. It loses its connection, and others are served meanwhile.
func TestSlowReaderOfWholeAnswersIsCutOff(t *testing.T) {
	f := start(t, func(c *setup) { c.WriteTime, c.RequestTime = 250*time.Millisecond, 3*time.Second })
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	const body = `{"model":"tiny","prompt":"x","max_tokens":1}`
	one := fmt.Sprintf("POST /v1/completions HTTP/1.1\r\nHost: agent\r\nAnchorhold-Receipt: full\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	cut := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = io.WriteString(conn, one)
		}
		cut <- err
	}()
	for open := true; open; {
		select {
		case err := <-cut:
			open = false
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("its connection is kept for ever")
			}
		default:
		}
		if r := f.do(t, http.MethodPost, "/v1/completions", body); r.status != 200 {
			t.Fatal(r)
		}
	}
}
