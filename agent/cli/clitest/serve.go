package clitest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// Refusal is an answer with an error object, as agent, broker and aggregators give it.
type Refusal struct {
	Status        int
	Code, Message string
}

// Asked is a request that a [Server] got.
type Asked struct {
	// Line is its method, path and query.
	Line string
	// Media is the type of its body.
	Media, Body string
}

// Server stands in for an agent, a broker or an aggregator. It is for use by several goroutines.
type Server struct {
	// Socket is where it listens.
	Socket string

	mu    sync.Mutex
	asked []Asked
}

// Serve answers requests by "METHOD /path" until the test ends: a string as it is, a [Refusal]
// as one, anything else as JSON. What has no answer is refused with not-now. Several answers in
// a []any are given one after the other, the last one for ever.
func Serve(t *testing.T, answers map[string]any) *Server {
	t.Helper()
	s := &Server{}
	given := map[string]int{} // mu guards it
	s.Socket = ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client gave up
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, Asked{r.Method + " " + r.URL.String(), r.Header.Get("Content-Type"), string(body)})
		line := r.Method + " " + r.URL.Path
		answer, ok := answers[line]
		if !ok {
			answer = Refusal{http.StatusConflict, "not-now", line}
		}
		if list, several := answer.([]any); several {
			answer = list[min(given[line], len(list)-1)]
			given[line]++
		}
		switch a := answer.(type) {
		case string:
			_, _ = io.WriteString(w, a) // the client sees what is missing
		case Refusal:
			w.WriteHeader(a.Status)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": operator.Error{Code: a.Code, Message: a.Message}})
		default:
			raw, err := json.Marshal(a)
			if err != nil {
				t.Errorf("the answer to %s: %v", line, err)
			}
			_, _ = w.Write(raw)
		}
	}))
	return s
}

// Asked are the requests so far.
func (s *Server) Asked() []Asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Last is the last request; zero if there was none.
func (s *Server) Last() Asked {
	asked := s.Asked()
	if len(asked) == 0 {
		return Asked{}
	}
	return asked[len(asked)-1]
}
