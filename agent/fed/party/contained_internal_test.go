package party

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// A panic in the step of one key is that key's failure, with its secret wiped; the agent
// goes on with the others.
func TestAPanicEndsOneKeyAlone(t *testing.T) {
	s := &Service{cfg: Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, work: make(chan func(context.Context)), keys: map[digest.RoundID]*member{}}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	defer running.Wait()
	defer stop()
	seed, err := keybuf.Random(seedBytes)
	if err != nil {
		t.Fatal(err)
	}
	hit, other := &member{seed: seed, status: Status{State: SettingUp}}, &member{status: Status{State: SettingUp}}
	ended := make(chan struct{})
	if err := s.begin(ctx, hit, func(context.Context) error { defer close(ended); return cut(nil, 32) }); err != nil {
		t.Fatal(err)
	}
	<-ended
	var came sync.WaitGroup
	came.Add(1)
	if err := s.begin(ctx, other, func(context.Context) error { came.Done(); return nil }); err != nil {
		t.Fatal(err)
	}
	came.Wait()
	stop()
	running.Wait() // and with it what was begun
	if st := hit.show(); st.State != Failed || st.Reason != "internal-error" || seed.Bytes() != nil {
		t.Errorf("%+v", st)
	}
	if st := other.show(); st.State != SettingUp {
		t.Errorf("the other key: %+v", st)
	}
}

// cut cuts a message without a look at its length.
func cut(b []byte, n int) error { _ = b[n:]; return nil }

// Whoever verifies a message checks its length; who cuts it checks again.
func TestCommitmentsAreCutByLength(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, federation.CommitBytes - 1, federation.CommitBytes + 1} {
		if _, err := readCommitments([]federation.PartyMessage{{Payload: make([]byte, n)}}); err == nil {
			t.Errorf("%d bytes are a commitment", n)
		}
	}
	list, err := readCommitments([]federation.PartyMessage{{Payload: make([]byte, federation.CommitBytes)}})
	if err != nil || len(list[0].share)+len(list[0].key) != federation.CommitBytes {
		t.Errorf("%v, %v", list, err)
	}
}
