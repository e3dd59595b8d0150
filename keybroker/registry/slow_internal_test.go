package registry

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A peer that does not read its answer, or does not send its body, holds none of the
// places for requests that are worked on.
func TestSlowPeersHoldNoPlace(t *testing.T) {
	s := &Service{cfg: Config{RequestTimeout: 20 * time.Second, Requests: 1, Logger: slog.New(slog.DiscardHandler)}, serving: make(chan struct{}, 1), quiet: slog.New(slog.DiscardHandler)}
	made := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /large", s.limited(0, func(*http.Request, []byte) (any, error) {
		made <- struct{}{}
		return strings.Repeat("x", 32<<20), nil // more than the kernel takes from us
	}))
	mux.HandleFunc("POST /body", s.limited(1<<20, func(*http.Request, []byte) (any, error) { return "read", nil }))
	mux.HandleFunc("GET /small", s.limited(0, func(*http.Request, []byte) (any, error) { return "served", nil }))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, request := range []string{"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, request)
	}
	<-made
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(server.URL + "/small")
	if err != nil {
		t.Fatal("nobody else is served: ", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
