package workapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
)

// TestABodyThatCreepsEnds: a byte each half minute kept room on the disk for ever.
func TestABodyThatCreepsEnds(t *testing.T) {
	for name, c := range map[string]struct {
		age  time.Duration
		came int64
		slow bool
	}{
		"just begun":             {bodyGrace - time.Second, 0, false},
		"nothing for minutes":    {2 * bodyGrace, 0, true},
		"too little for minutes": {2 * bodyGrace, bodyRate*120 - 1, true},
		"enough":                 {2 * bodyGrace, bodyRate * 121, false},
	} {
		p := &patient{r: strings.NewReader("x"), c: http.NewResponseController(httptest.NewRecorder()), begun: time.Now().Add(-c.age), came: c.came}
		n, err := p.Read(make([]byte, 1))
		refused, ok := errors.AsType[*localapi.Error](err)
		if ok != c.slow || ok && (refused.Status != http.StatusRequestTimeout || refused.Code != "request-too-slow") || !ok && (n != 1 || p.came != c.came+1) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}
