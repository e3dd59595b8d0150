package daemon

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// revocable is an echo that remembers its revocation lists.
type revocable struct {
	echo
	mu    sync.Mutex
	lists []string
	keys  [2][]string // of TPMs and of GPUs
	end   time.Time
}

// SetTPMRevocationLists and SetGPURevocationLists remember theirs.
func (r *revocable) SetTPMRevocationLists(raw [][]byte) error { return r.setKeys(0, raw) }

func (r *revocable) SetGPURevocationLists(raw [][]byte) error { return r.setKeys(1, raw) }

func (r *revocable) setKeys(i int, raw [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[i] = nil
	for _, der := range raw {
		r.keys[i] = append(r.keys[i], string(der))
	}
	return nil
}

func (r *revocable) SetRevocationLists(raw [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next []string
	for _, der := range raw {
		if string(der) == "damaged" {
			return errors.New("not a list")
		}
		next = append(next, string(der))
	}
	r.lists = next
	return nil
}

func (r *revocable) held() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lists)
}

func (r *revocable) Ends() []appraise.End {
	return []appraise.End{{Kind: "revocation_list", Name: "ARK-Test", At: r.end}}
}

// TestRevocationListsAreReloadedWithoutARestart: by looking at their files, and on a
// reload. A file that is gone or wrong leaves the lists that are held.
func TestRevocationListsAreReloadedWithoutARestart(t *testing.T) {
	s := newState(t, false)
	file := filepath.Join(t.TempDir(), "crl.pem")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte(text)}), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put("first, with another length")
	verifier := &revocable{}
	o := s.options
	o.Config.Appraisal.RevocationLists = []string{file}
	o.NewAppraiser = func() (Appraiser, error) { return verifier, nil }
	synctest.Test(t, func(t *testing.T) {
		d, err := open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := d.close(); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.maintain(ctx) }()
		step := func(what, want string) {
			t.Helper()
			time.Sleep(pollEvery + time.Second)
			synctest.Wait()
			if got := strings.Join(verifier.held(), ","); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		step("nothing changed since the start", "")
		put("second")
		step("a file was replaced", "second")
		put("damaged")
		step("a damaged one", "second")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		step("none", "second")
		put("third list")
		step("one is back", "third list")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		put("fourth")
		if err := d.loadLists(); err != nil || strings.Join(verifier.held(), ",") != "fourth" {
			t.Errorf("on a reload: %v, %q", err, verifier.held())
		}
	})
}

// TestEachAuthoritysListsGoToItsVerifier, also when those of another cannot be read; and the status says which are checked.
func TestEachAuthoritysListsGoToItsVerifier(t *testing.T) {
	s := newState(t, false)
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	verifier := &revocable{}
	s.options.NewAppraiser = func() (Appraiser, error) { return verifier, nil }
	a := &s.options.Config.Appraisal
	a.RevocationLists = []string{file("amd", "damaged")}
	a.GPU, a.GPURevocationLists = true, []string{file("gpu", "devices")}
	a.TPM.Roots, a.TPM.RevocationLists = []string{"google"}, []string{file("tpm", "keys")}
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	if len(d.lists.seen) != 3 {
		t.Errorf("%d files are watched", len(d.lists.seen))
	}
	if err := d.loadLists(); err == nil || len(verifier.held()) != 0 || !slices.Equal(verifier.keys[0], []string{"keys"}) || !slices.Equal(verifier.keys[1], []string{"devices"}) {
		t.Errorf("%v: %v, %v", err, verifier.held(), verifier.keys)
	}
}

// TestStatusSaysWhatIsNotCheckedForRevocation.
func TestStatusSaysWhatIsNotCheckedForRevocation(t *testing.T) {
	s := newState(t, false)
	s.options.NewAppraiser = func() (Appraiser, error) { return &revocable{}, nil }
	s.options.Config.Appraisal.GPU = true
	op, _, _ := s.run(t)
	st, err := op.Status(t.Context())
	if err != nil || len(st.RevocationUnchecked) != 1 || !strings.Contains(st.RevocationUnchecked[0], "gpu_revocation_lists") {
		t.Errorf("%v, %v", st.RevocationUnchecked, err)
	}
}

// TestReloadReadsRevocationLists: what a signal has read again includes them.
func TestReloadReadsRevocationLists(t *testing.T) {
	s := newState(t, false)
	file := filepath.Join(t.TempDir(), "crl.der")
	if err := os.WriteFile(file, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	verifier, reload := &revocable{}, make(chan os.Signal, 1)
	s.options.Reload = reload
	s.options.Config.Appraisal.RevocationLists = []string{file}
	s.options.NewAppraiser = func() (Appraiser, error) { return verifier, nil }
	s.run(t)
	reload <- os.Interrupt
	waitFor(t, nil, func() bool { return slices.Equal(verifier.held(), []string{"first"}) })
}

// TestEveryDateOnWhichServiceWouldStopIsShown: in the status, in metrics, and in the log
// once it is near.
func TestEveryDateOnWhichServiceWouldStopIsShown(t *testing.T) {
	s := newState(t, false)
	soon := time.Now().Add(5 * 24 * time.Hour).UTC().Truncate(time.Second)
	s.options.NewAppraiser = func() (Appraiser, error) { return &revocable{end: soon}, nil }
	op, _, stop := s.run(t)
	if _, err := op.ImportPolicy(t.Context(), policyText(1)); err != nil {
		t.Fatal(err)
	}
	st, err := op.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := op.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at := st.Ends["revocation_list ARK-Test"]; !at.Equal(soon) {
		t.Errorf("%+v", st.Ends)
	}
	p, err := policy.Parse(policyText(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, end := p.Validity(); !st.Ends["policy demo version 1"].Equal(end) || !st.Ends["epoch 1"].Equal(st.Epochs[0].NotAfter) {
		t.Errorf("%+v", st.Ends)
	}
	for _, kind := range []string{"epoch", "tls_certificate", "policy", "revocation_list"} {
		if !strings.Contains(metrics, "anchorhold_broker_"+kind+"_ends_seconds ") {
			t.Errorf("no %s in\n%s", kind, metrics)
		}
		if !slices.ContainsFunc(keysOf(st.Ends), func(name string) bool { return strings.HasPrefix(name, kind) }) {
			t.Errorf("no %s in %+v", kind, st.Ends)
		}
	}
	stop()
	if log := s.log.String(); strings.Count(log, "expires soon") != 1 || !strings.Contains(log, "kind=revocation_list name=ARK-Test") || !strings.Contains(log, "days_left=4") {
		t.Error(log)
	}
}

func keysOf(m map[string]time.Time) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}
