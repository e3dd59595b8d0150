package main

import (
	"encoding/json"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// TestTheGuestSaysWhatItCannotDo: an order that came to nothing is no search that found nothing.
func TestTheGuestSaysWhatItCannotDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() { ended <- takeOrders(l.Addr().String()) }()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	in, out := json.NewDecoder(c), json.NewEncoder(c)
	answer := func(o *order) report {
		t.Helper()
		var r report
		if o != nil {
			if err := out.Encode(o); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Decode(&r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := answer(nil); r.Output != "here" || r.Error != "" {
		t.Errorf("it greets with %+v", r)
	}
	for _, tc := range []struct {
		o    order
		want string
	}{
		{order{Do: "dance"}, `there is no order "dance"`},
		{order{Do: "search"}, "no index was sent"},
		{order{Do: "stop", Words: []string{"client"}}, "client was not started"},
		{order{Do: "alive", Words: []string{"client"}}, "client was not started"},
		{order{Do: "index", Index: &canary.Index{Key: make([]byte, 32), Entries: []byte{1}}}, "malformed"},
		{order{Do: "run", Words: []string{"sh", "-c", "echo why >&2; exit 3"}}, "exit status 3"},
	} {
		if r := answer(&tc.o); !strings.Contains(r.Error, tc.want) {
			t.Errorf("%s: %+v, want %q", tc.o.Do, r, tc.want)
		}
	}
	if r := answer(&order{Do: "run", Words: []string{"echo", "it works"}}); r.Output != "it works" || r.Error != "" {
		t.Errorf("%+v", r)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestUnknownPartsAreRefused(t *testing.T) {
	if err := takePart("nobody", nil); err == nil {
		t.Error("a part that does not exist was taken")
	}
}

// TestAProcessThatEndedIsNotAlive, though nobody has waited for it yet.
func TestAProcessThatEndedIsNotAlive(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &audited{started: map[string]*exec.Cmd{"client": cmd}}
	if err := g.alive("client"); err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.alive("client"); err == nil {
		t.Error("it is said to be alive")
	}
	if err := g.stop("client"); err != nil || g.started["client"] != nil {
		t.Error(err)
	}
}

// TestWhenALeaseIsOver: a status between two leases is not its end.
func TestWhenALeaseIsOver(t *testing.T) {
	for text, want := range map[string][2]bool{
		`{"state":"serving","model":{"id":"x"}}`:                             {true, false},
		`{"state":"serving"}`:                                                {false, false},
		`{"state":"attesting","last_refusal":{"reason":"unreachable"}}`:      {false, false},
		`{"state":"lease-expired"}`:                                          {false, false},
		`{"state":"lease-expired","last_refusal":{"reason":"policy-ended"}}`: {false, true},
	} {
		var s agentStatus
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{s.serves(), s.quiet()}; got != want {
			t.Errorf("%s: serves and is quiet: %v, want %v", text, got, want)
		}
	}
}
