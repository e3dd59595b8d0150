package introduction_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
)

// TestAnAnswerHasAnEnd: whoever is at the other end, a guest that says who it is reads no more
// of the answer than an honest one has. Nothing in net/http bounds the header here.
func TestAnAnswerHasAnEnd(t *testing.T) {
	long := strings.Repeat("a", 64<<10)
	for name, answer := range map[string][2]string{
		"a header":         {"HTTP/1.1 200 OK\r\nX-Long: ", long},
		"many headers":     {"HTTP/1.1 200 OK\r\n", strings.Repeat("X: a\r\n", 1<<10)},
		"a status":         {"HTTP/1.1 200 ", long},
		"a body":           {"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", long},
		"a body in chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1000\r\n" + long[:0x1000] + "\r\n"},
		"a refusal":        {"HTTP/1.1 403 No\r\nContent-Length: 1000000000\r\n\r\n", "{\"error\":{\"message\":\"" + long},
	} {
		client, server := ends(t)
		said := make(chan int, 1)
		go func() {
			_, err := http.ReadRequest(bufio.NewReader(server))
			n := 0
			for next := answer[0]; err == nil && n < 256<<20; next = answer[1] {
				var k int
				k, err = io.WriteString(server, next)
				n += k
			}
			said <- n
		}()
		if err := introduction.Say(t.Context(), client, []byte("signed")); err == nil {
			t.Errorf("%s: taken", name)
		}
		_ = client.NetConn().Close() // the server's writes end
		const more = 64 << 10        // that were written and not read
		if n := <-said; n > 64<<10+more {
			t.Errorf("%s: %d bytes were taken", name, n)
		}
	}
}

// TestARefusalIsHandedOnInForm: reasons are recorded, and decide what is tried again; one
// that has not the form of a reason is none.
func TestARefusalIsHandedOnInForm(t *testing.T) {
	for name, tc := range map[string]struct {
		code string
		want refusal.Reason
	}{
		"a reason": {"norm-proof-invalid-2", "norm-proof-invalid-2"},
		"none":     {"", ""}, "a long one": {strings.Repeat("a", 65), ""}, "capitals": {"Reason", ""}, "a line": {"a\nb", ""}, "words": {"a b", ""},
	} {
		body, err := json.Marshal(map[string]any{"error": map[string]string{"code": tc.code, "message": strings.Repeat("m", 4<<10)}})
		if err != nil {
			t.Fatal(err)
		}
		err = introduction.Refusal(&http.Response{StatusCode: http.StatusForbidden, Status: strings.Repeat("s", 4<<10), Body: io.NopCloser(bytes.NewReader(body))})
		if got, _ := refusal.ReasonOf(err); err == nil || got != tc.want || len(err.Error()) > 2<<10 {
			t.Errorf("%s: %q in %d bytes, want %q", name, got, len(err.Error()), tc.want)
		}
	}
}
