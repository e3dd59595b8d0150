package oracletest

import (
	"os/exec"
	"reflect"
	"sync"
	"testing"
)

// TestAnswersBelongToTheirQuestions, also of goroutines that ask at once. cat answers every question
// with itself.
func TestAnswersBelongToTheirQuestions(t *testing.T) {
	p := start(t, exec.Command("cat"))
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			asked := Request{TDX: &TDXRequest{Quote: []byte{byte(n)}, Documents: &TDXDocuments{TCBInfo: []byte("<>&\n")}, Unix: int64(n)}}
			var got Request
			if p.ask(t, asked, &got); !reflect.DeepEqual(got, asked) {
				t.Errorf("got %+v, want %+v", got, asked)
			}
		})
	}
	all.Wait()
}

func TestChainsAreHandedOverAsPEM(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\nAA+/\n-----END CERTIFICATE-----\n"
	for _, chain := range []string{pem, "-----BEGIN%20CERTIFICATE-----%0AAA%2B%2F%0A-----END%20CERTIFICATE-----%0A"} {
		if got := plain(t, []byte(chain)); string(got) != pem {
			t.Errorf("%q becomes %q", chain, got)
		}
	}
}
