package volumeapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// asked is a service whose broker confirms the next state, and what it was told.
func asked(uid uint32, refused error) (*service, *[]generation.Holding) {
	var told []generation.Holding
	return &service{
		uid:   func(context.Context) uint32 { return uid },
		bound: context.WithCancelCause,
		tell: func(_ context.Context, h generation.Holding) (generation.State, error) {
			told = append(told, h)
			return h.Next, refused
		},
		log: slog.New(slog.DiscardHandler),
	}, &told
}

func post(s *service, name, body string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequest(http.MethodPost, "http://agent/v1/volumes/x", strings.NewReader(body))
	r.SetPathValue("name", name)
	w := httptest.NewRecorder()
	return w, s.opened(w, r)
}

const body = `{"confirmed":{"generation":3,"mark":"0100000000000000000000000000000000000000000000000000000000000000"},
 "next":{"generation":4,"mark":"0200000000000000000000000000000000000000000000000000000000000000"}}`

func TestRootsWordGoesToTheBroker(t *testing.T) {
	s, told := asked(0, nil)
	w, err := post(s, "var", body)
	want := generation.Holding{Volume: "volumes/var", Confirmed: generation.State{Generation: 3, Mark: digest.Digest{1}}, Next: generation.State{Generation: 4, Mark: digest.Digest{2}}}
	if err != nil || len(*told) != 1 || (*told)[0] != want || !strings.Contains(w.Body.String(), `"generation":4`) {
		t.Errorf("%v, told %+v, answered %s", err, *told, w.Body)
	}
	if _, err := post(s, "var", "{}"); err != nil || len(*told) != 2 {
		t.Errorf("a question about a volume that was never confirmed: %v", err)
	}
}

func TestNobodyElseIsHeard(t *testing.T) {
	s, told := asked(1000, nil)
	_, err := post(s, "var", body)
	refusaltest.Want(t, "user 1000", err, ReasonNotRoot)
	if len(*told) != 0 {
		t.Error("the broker was told")
	}
}

func TestOtherRequestsAreRefused(t *testing.T) {
	s, told := asked(0, nil)
	for name, tc := range map[string][2]string{
		"no JSON": {"var", "x"}, "nothing": {"var", ""}, "unknown field": {"var", `{"more":1}`}, "two values": {"var", "{}{}"},
		"too much": {"var", `{"confirmed":{"generation":1}}` + strings.Repeat(" ", maxBody)}, "a path": {"../var", body}, "no name": {"", body}, "capitals": {"Var", body},
	} {
		_, err := post(s, tc[0], tc[1])
		if e, ok := errors.AsType[*localapi.Error](err); !ok || e.Code != "volume-request" || e.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(*told) != 0 {
		t.Errorf("the broker was told %+v", *told)
	}
}

func TestTheBrokersRefusalIsHandedOn(t *testing.T) {
	s, _ := asked(0, refusal.New(generation.ReasonRolledBack, "the broker refused volumes/var"))
	w, err := post(s, "var", body)
	refusaltest.Want(t, "rolled back", err, generation.ReasonRolledBack)
	if w.Body.Len() != 0 {
		t.Errorf("answered %s", w.Body)
	}
}
